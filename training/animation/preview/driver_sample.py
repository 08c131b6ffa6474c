"""A few frames of a driver, evenly spaced, with the chosen person's face: a quick look instead of a whole track."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from pipelines.assets import AssetError, CacheError
from pipelines.faces.face import Face, LandmarkDetector
from pipelines.faces.identity.face_choice import FaceChoice
from pipelines.faces.identity.sface import FaceRecogniser, align
from pipelines.media.decoder.process import Decoder, DecoderDied
from pipelines.media.frame_times import FrameTimes
from pipelines.media.video import Frame, decode, probe
from training.animation.driver_track import DriverTrack

NUM_FRAMES = 16
_SAME = 0.363  # similarity of one person's pictures: the threshold of SFace's authors
_MAX_SIDE = 480  # of the frames that are kept, pixels


@dataclass(frozen=True)
class DriverSample:
    """Frames of a driver that show the chosen person, and what the others show."""

    images: tuple[UInt8[np.ndarray, "height width 3"], ...]
    """Shrunk to 480 pixels."""
    scales: tuple[float, ...]
    """Size of each image relative to the driver's frame."""
    track: DriverTrack
    """Of these frames; `times` are not the driver's."""
    seconds: tuple[float, ...]
    face_size: float
    """Median larger side of the face, pixels of the driver."""
    num_frames: int
    """Frames that were looked at."""
    without_face: tuple[float, ...]
    """Times of frames without any face, seconds."""
    num_others: int
    """Frames in which only other people are seen."""
    num_crowded: int
    """Frames with several faces."""


def sample_driver(
    driver: Path,
    detector: LandmarkDetector,
    choice: FaceChoice,
    number: int = NUM_FRAMES,
    *,
    decoder: Decoder | None = None,
) -> DriverSample:
    """Look at `number` frames of a driver.

    Args:
        decoder: decodes the driver in its own process, so that a film that crashes or hangs the decoder is an error;
            None: in this process.

    Raises:
        ValueError: it is no video, crashes or hangs the decoder, or none of its frames shows the face; the message is
            one line.
    """
    try:
        frames = _evenly(driver, number, decoder)
    except DecoderDied as error:
        raise ValueError(f"{driver}: {error}") from None
    faces = [detector.detect(frame.image) for frame in frames]
    first = next((at for at, found in enumerate(faces) if found), None)
    if first is None:
        raise ValueError(f"{driver}: no face found in {len(frames)} frames")
    wanted = choice.find(faces[first])
    if wanted is None:
        raise ValueError(f"{driver}: {choice.problem(len(faces[first]))}")
    seen = _recognised(frames, faces, frames[first], wanted)
    kept = [(frame, face) for frame, face in zip(frames, seen, strict=True) if face is not None]
    gaze = [np.full((2, 2), np.nan, np.float32) if face.gaze is None else face.gaze for _, face in kept]
    track = DriverTrack(
        np.stack([face.landmarks for _, face in kept]).astype(np.float32),
        np.stack(gaze).astype(np.float32),
        np.ones(len(kept), bool),
        FrameTimes(np.arange(len(kept)) / 1.0, Fraction(1), constant=True),
        detector.name,
    )
    scales = [min(1.0, _MAX_SIDE / max(frame.image.shape[:2])) for frame, _ in kept]
    return DriverSample(
        images=tuple(_shrunk(frame.image, scale) for (frame, _), scale in zip(kept, scales, strict=True)),
        scales=tuple(scales),
        track=track,
        seconds=tuple(frame.pts_us / 1e6 for frame, _ in kept),
        face_size=float(np.median([max(np.ptp(face.landmarks, axis=0)) for _, face in kept])),
        num_frames=len(frames),
        without_face=tuple(frame.pts_us / 1e6 for frame, found in zip(frames, faces, strict=True) if not found),
        num_others=sum(bool(found) and face is None for found, face in zip(faces, seen, strict=True)),
        num_crowded=sum(len(found) > 1 for found in faces),
    )


def _evenly(driver: Path, number: int, decoder: Decoder | None) -> list[Frame]:
    if decoder is not None:
        num_frames = decoder.describe(driver).num_frames
        return list(decoder.frames(driver, _spread(num_frames, number)))
    num_frames = probe(driver).num_frames
    if num_frames <= 1:  # a header that does not tell
        return [next(decode(driver))]
    # The header may promise more frames than there are.
    return list(decode(driver, frame_indices=_spread(num_frames, number))) or [next(decode(driver))]


def _spread(num_frames: int, number: int) -> list[int]:
    return [int(index) for index in np.unique(np.linspace(0, num_frames - 1, number).astype(int))]


def _recognised(
    frames: Sequence[Frame], faces: Sequence[Sequence[Face]], first: Frame, wanted: Face
) -> list[Face | None]:
    """Return in each frame the face most like the wanted one, if it is the same person's."""
    recogniser = FaceRecogniser()
    cuts = [align(frame.image, face.landmarks) for frame, found in zip(frames, faces, strict=True) for face in found]
    try:
        reference = recogniser.embed_aligned([align(first.image, wanted.landmarks)])[0]
        alike = iter((recogniser.embed_aligned(cuts) @ reference).tolist())
    except (AssetError, CacheError):  # without the network, the largest
        return [found[0] if found else None for found in faces]
    chosen = []
    for found in faces:
        scored = [(next(alike), face) for face in found]
        best = max(scored, key=lambda pair: pair[0], default=(0.0, None))
        chosen.append(best[1] if best[0] >= _SAME else None)
    return chosen


def _shrunk(image: UInt8[np.ndarray, "height width 3"], scale: float) -> UInt8[np.ndarray, "new_height new_width 3"]:
    if scale == 1:
        return image
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def landmarks_in(sample: DriverSample, frame: int) -> Float[np.ndarray, "68 2"]:
    """Return the landmarks in pixels of the sample's image."""
    return np.asarray(sample.track.landmarks[frame] * sample.scales[frame], np.float32)
