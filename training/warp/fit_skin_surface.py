"""How the skin between the landmarks lies, learned from pictures of faces: the map of `training.warp.skin_surface`.

`python -m training.warp.fit_skin_surface DATA_SET` finds it anew in a preprocessed data set of synthetic people and
writes it into the package.
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
_SIZE = 256  # MediaPipe sees what is smaller worse
# What a landmark trembles by, in eyes' distances, and what is to be taken for it: 2.2 pixels of a face whose eyes are
# 69 pixels apart. Twice as much gives a little more likeness, and brows that follow a driver a little less.
_TREMBLING = 0.0324
_NUM_MESH_POINTS = 468
# Eyes' distances from the middle of the face. Where the face ends its skin turns away from who looks on: a spline that
# followed it there folded the far cheek of a head that turns from one side to the other.
_CHEEKS = 0.816


def read_meshes(root: str) -> Iterator[Float[np.ndarray, "478 2"]]:
    """MediaPipe's points of some frames of every video of a data set, in pixels."""
    dataset, reader = ShardDataset(root), MeshReader()
    for video in (video for split in SPLITS for video in dataset.videos(split)):
        step = max(len(video.frames) // _FRAMES_PER_VIDEO, 1)
        for jpeg, _ in dataset.read(video.frames[::step]):
            mesh = reader.read(resize_square(decode_jpeg(jpeg), _SIZE))
            if mesh is not None:
                yield mesh.astype(np.float64)


def fit_surface(meshes: Float[np.ndarray, "faces 478 2"], trembling: float) -> dict[str, np.ndarray]:
    """The fields of a `SurfaceMap`: ridge regression of the skin's points on the landmarks, alike for both halves.

    Args:
        trembling: standard deviation of what is not to be followed, in eyes' distances.
    """
    from scipy.optimize import linear_sum_assignment  # of the development environment

    skin, landmarks = skin_points(), meshes[:, MEDIAPIPE_TO_IBUG]
    both = np.concatenate([landmarks, _mirrored(landmarks, np.array(MIRRORED))])
    reference = _upright(both[[0, len(landmarks)]].mean(axis=0))
    for _ in range(3):  # until the mean face is the mean of faces brought onto it
        reference = _upright(_moved(both, both, reference).mean(axis=0))
    surface = _moved(landmarks, meshes[:, skin], reference).mean(axis=0)
    inner = np.abs(surface[:, 0]) < _CHEEKS
    surface, skin = surface[inner], skin[inner]
    _, partners = linear_sum_assignment(np.linalg.norm(surface[:, None] * (-1, 1) - surface, axis=-1))
    skins = np.concatenate([meshes[:, skin], _mirrored(meshes[:, skin], partners)])
    asked = (_moved(both, both, reference) - reference).reshape(len(both), -1)
    found = _moved(both, skins, reference)
    surface = found.mean(axis=0)
    answers = (found - surface).reshape(len(both), -1)
    asked = asked - asked.mean(axis=0)
    ridge = len(both) * trembling**2 * np.eye(asked.shape[1])
    weights = np.linalg.solve(asked.T @ asked + ridge, asked.T @ answers)
    return {"reference": reference, "surface": surface, "weights": weights}


def skin_points() -> Int[np.ndarray, "points"]:
    """Of MediaPipe's mesh, all points but those on the outlines of eyes and lips, which move by ways of their own."""
    from mediapipe.tasks.python.vision import FaceLandmarksConnections as Outlines

    lines = Outlines.FACE_LANDMARKS_LIPS, Outlines.FACE_LANDMARKS_LEFT_EYE, Outlines.FACE_LANDMARKS_RIGHT_EYE
    outlined = {point for line in lines for edge in line for point in (edge.start, edge.end)}
    return np.setdiff1d(np.arange(_NUM_MESH_POINTS), list(outlined))


def _complex(points: Float[np.ndarray, "*batch points 2"]) -> Complex128[np.ndarray, "*batch points"]:
    return np.asarray(points[..., 0] + 1j * points[..., 1])


def _upright(face: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, "68 2"]:
    """A face about its middle, its eyes level and one apart."""
    points = _complex(face - face.mean(axis=0))
    points = points / (points[42:48].mean() - points[36:42].mean())
    return np.stack([points.real, points.imag], axis=-1)


def _mirrored(
    points: Float[np.ndarray, "faces points 2"], partners: Int[np.ndarray, "points"]
) -> Float[np.ndarray, "faces points 2"]:
    return np.asarray(points[:, partners] * (-1, 1))


def _moved(
    faces: Float[np.ndarray, "faces 68 2"],
    points: Float[np.ndarray, "faces points 2"],
    reference: Float[np.ndarray, "68 2"],
) -> Float[np.ndarray, "faces points 2"]:
    """Points of faces, turned, scaled and moved as brings each face's landmarks onto the reference."""
    middle = faces.mean(axis=1, keepdims=True)
    seen, wanted = _complex(faces - middle), _complex(reference)
    factor = (seen.conj() * wanted).sum(axis=1) / (np.abs(seen) ** 2).sum(axis=1)
    moved = _complex(points - middle) * factor[:, None]
    return np.stack([moved.real, moved.imag], axis=-1)


def main() -> None:
    """Find the map and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a preprocessed data set of synthetic people")
    root = parser.parse_args().data
    try:
        meshes = np.stack(list(read_meshes(root)))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    fields = fit_surface(meshes, _TREMBLING)
    np.savez(SURFACE_FILE, allow_pickle=False, **{name: values.astype(np.float16) for name, values in fields.items()})
    console().print(f"faces: {len(meshes)}\nmap: {SURFACE_FILE}")


if __name__ == "__main__":
    main()
