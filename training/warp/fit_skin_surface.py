"""Fit the map of `training.warp.skin_surface` from landmarks to points of the skin.

`python -m training.warp.fit_skin_surface DATA_SET` fits it on a preprocessed data set of synthetic people and writes it
into the package.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from jaxtyping import Complex128, Float, Int

from pipelines.cli import console
from pipelines.dataset.reader import ShardDataset
from pipelines.dataset.schema import SPLITS
from pipelines.faces.head_pose import MIRRORED
from pipelines.faces.mediapipe_detector import MEDIAPIPE_TO_IBUG, MeshReader
from pipelines.media.images import decode_jpeg
from training.images import resize_square
from training.warp.skin_surface import SURFACE_FILE

_FRAMES_PER_VIDEO = 6
_SIZE = 256  # pixels; MediaPipe is less accurate on smaller frames
# Standard deviation of a landmark's jitter in eye distances: 2.2 pixels with eyes 69 pixels apart. Twice as much
# preserves identity slightly better, but brows follow a driver slightly less.
_JITTER = 0.0324
_NUM_MESH_POINTS = 468
# Distance from the face's centre, in eye distances, beyond which points of the skin are not used: near the outline a
# spline through them would fold the far cheek of a head that turns from one side to the other.
_MAX_DISTANCE = 0.816


def read_meshes(root: str) -> Iterator[Float[np.ndarray, "478 2"]]:
    """Yield MediaPipe's mesh for some frames of every video of a data set, in pixels."""
    dataset, reader = ShardDataset(root), MeshReader()
    for video in (video for split in SPLITS for video in dataset.videos(split)):
        step = max(len(video.frames) // _FRAMES_PER_VIDEO, 1)
        for jpeg, _ in dataset.read(video.frames[::step]):
            mesh = reader.read(resize_square(decode_jpeg(jpeg), _SIZE))
            if mesh is not None:
                yield mesh.astype(np.float64)


def fit_surface(meshes: Float[np.ndarray, "faces 478 2"], jitter: float) -> dict[str, np.ndarray]:
    """Return the fields of a `SurfaceMap`: a ridge regression of skin on landmarks, symmetric for both halves.

    Args:
        jitter: standard deviation of the landmarks' noise, in eye distances; determines the ridge penalty.
    """
    from scipy.optimize import linear_sum_assignment  # installed in the development environment only

    skin, landmarks = skin_points(), meshes[:, MEDIAPIPE_TO_IBUG]
    both = np.concatenate([landmarks, _mirrored(landmarks, np.array(MIRRORED))])
    reference = _upright(both[[0, len(landmarks)]].mean(axis=0))
    for _ in range(3):  # iterate until the reference is the mean of faces aligned to it
        reference = _upright(_aligned(both, both, reference).mean(axis=0))
    surface = _aligned(landmarks, meshes[:, skin], reference).mean(axis=0)
    inner = np.abs(surface[:, 0]) < _MAX_DISTANCE
    surface, skin = surface[inner], skin[inner]
    _, partners = linear_sum_assignment(np.linalg.norm(surface[:, None] * (-1, 1) - surface, axis=-1))
    skins = np.concatenate([meshes[:, skin], _mirrored(meshes[:, skin], partners)])
    inputs = (_aligned(both, both, reference) - reference).reshape(len(both), -1)
    found = _aligned(both, skins, reference)
    surface = found.mean(axis=0)
    outputs = (found - surface).reshape(len(both), -1)
    inputs = inputs - inputs.mean(axis=0)
    ridge = len(both) * jitter**2 * np.eye(inputs.shape[1])
    weights = np.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ outputs)
    return {"reference": reference, "surface": surface, "weights": weights}


def skin_points() -> Int[np.ndarray, "points"]:
    """Return the points of MediaPipe's mesh except those on the outlines of eyes and lips, which move separately."""
    from mediapipe.tasks.python.vision import FaceLandmarksConnections as Outlines

    lines = Outlines.FACE_LANDMARKS_LIPS, Outlines.FACE_LANDMARKS_LEFT_EYE, Outlines.FACE_LANDMARKS_RIGHT_EYE
    outlined = {point for line in lines for edge in line for point in (edge.start, edge.end)}
    return np.setdiff1d(np.arange(_NUM_MESH_POINTS), list(outlined))


def _complex(points: Float[np.ndarray, "*batch points 2"]) -> Complex128[np.ndarray, "*batch points"]:
    return np.asarray(points[..., 0] + 1j * points[..., 1])


def _upright(face: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, "68 2"]:
    """Normalise a face: centred, its eyes level and at a distance of one."""
    points = _complex(face - face.mean(axis=0))
    points = points / (points[42:48].mean() - points[36:42].mean())
    return np.stack([points.real, points.imag], axis=-1)


def _mirrored(
    points: Float[np.ndarray, "faces points 2"], partners: Int[np.ndarray, "points"]
) -> Float[np.ndarray, "faces points 2"]:
    return np.asarray(points[:, partners] * (-1, 1))


def _aligned(
    faces: Float[np.ndarray, "faces 68 2"],
    points: Float[np.ndarray, "faces points 2"],
    reference: Float[np.ndarray, "68 2"],
) -> Float[np.ndarray, "faces points 2"]:
    """Transform points of faces by the similarity that aligns each face's landmarks with the reference."""
    middle = faces.mean(axis=1, keepdims=True)
    source, target = _complex(faces - middle), _complex(reference)
    factor = (source.conj() * target).sum(axis=1) / (np.abs(source) ** 2).sum(axis=1)
    aligned = _complex(points - middle) * factor[:, None]
    return np.stack([aligned.real, aligned.imag], axis=-1)


def main() -> None:
    """Fit the map and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a preprocessed data set of synthetic people")
    root = parser.parse_args().data
    try:
        meshes = np.stack(list(read_meshes(root)))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    fields = fit_surface(meshes, _JITTER)
    np.savez(SURFACE_FILE, allow_pickle=False, **{name: values.astype(np.float16) for name, values in fields.items()})
    console().print(f"faces: {len(meshes)}\nmap: {SURFACE_FILE}")


if __name__ == "__main__":
    main()
