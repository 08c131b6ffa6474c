"""How public scripts prepare VoxCeleb, for comparison: write all frames to PNG files, and detect in every one.

The original scripts detect faces with S3FD and landmarks with FAN on a GPU, or with dlib. Here the caller passes the
detector, so that the comparison is of the procedures, not of the networks.
"""

from __future__ import annotations

import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from pipelines.faces.crop import CropRule, crop_affine
from pipelines.faces.face import LandmarkDetector
from pipelines.media.video import ffmpeg_executable


def can_run() -> bool:
    """Whether scikit-image, which reads, resizes and writes the images, is installed."""
    return find_spec("skimage") is not None


def process_video(video: Path, folder: Path, detector: LandmarkDetector, size: int) -> int:
    """Write every frame, then every face, of a video below `folder`; return the number of faces.

    One ffmpeg process per video. Per frame: read the PNG, detect, crop the face, resize with anti-aliasing, write a PNG
    of `size` pixels and the points.

    Raises:
        OSError: ffmpeg failed.
    """
    frames, faces = folder / "frames", folder / "faces"
    for made in (frames, faces):
        made.mkdir(parents=True)
    command = [ffmpeg_executable(), "-nostdin", "-loglevel", "error", "-i", f"file:{video}", str(frames / "%06d.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ffmpeg cannot read {video}: {done.stderr.strip()}")
    return sum(_prepare_frame(file, faces, detector, size) for file in sorted(frames.iterdir()))


def _prepare_frame(file: Path, folder: Path, detector: LandmarkDetector, size: int) -> int:
    from skimage import io, transform

    image: UInt8[np.ndarray, "height width 3"] = io.imread(file)
    found = detector.detect(image)
    if not found:
        return 0
    window, points = _square(image, found[0].landmarks)
    resized = transform.resize(window, (size, size), anti_aliasing=True)  # type: ignore[no-untyped-call]
    io.imsave(folder / file.name, np.rint(resized * 255).astype(np.uint8), check_contrast=False)
    np.save(folder / f"{file.stem}.npy", points * (size / max(window.shape[:2])))
    return 1


def _square(
    image: UInt8[np.ndarray, "height width 3"], landmarks: Float[np.ndarray, "68 2"]
) -> tuple[UInt8[np.ndarray, "rows columns 3"], Float[np.ndarray, "68 2"]]:
    """Return the square of Sfumato's crop rule for this frame, clipped to the image, and the points in it."""
    affine = crop_affine(landmarks[None], CropRule(), 1)
    side = max(1, round(float(affine[0, 0])))
    corner = np.rint(affine[:, 2] - side / 2).astype(int)
    low, high = np.maximum(corner, 0), corner + side
    return image[low[1] : high[1], low[0] : high[0]], landmarks - low
