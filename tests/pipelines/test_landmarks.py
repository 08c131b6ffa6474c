import gc
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipelines import assets, landmarks, video
from pipelines.landmarks import MEDIAPIPE_TO_IBUG, FaceAlignmentDetector, create_detector, face_size, make_face

# iBUG points that mirror each other: i <-> MIRROR[i].
MIRROR = [
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31,
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
]  # fmt: skip


S3FD, FAN4 = landmarks.FACE_ALIGNMENT_WEIGHTS


@pytest.fixture(scope="module")
def mona_lisa() -> np.ndarray:
    return video.read_image(assets.fetch("mona_lisa"))


def test_a_face_has_the_box_of_its_points() -> None:
    points = np.zeros((68, 2))
    points[3], points[9] = (5, 40), (25, 10)
    face = make_face(points, 0.5)
    assert face.box == (0, 0, 25, 40)
    assert face_size(face) == 40
    assert face.landmarks.dtype == np.float32


def test_the_map_takes_68_different_points() -> None:
    assert len(set(MEDIAPIPE_TO_IBUG.tolist())) == 68
    assert 0 <= MEDIAPIPE_TO_IBUG.min() <= MEDIAPIPE_TO_IBUG.max() < 478


def test_an_unknown_detector_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="mediapipe, face-alignment"):
        create_detector("dlip")


def test_nothing_is_loaded_before_the_first_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "fetch", lambda name: pytest.fail("loaded too early"))
    for name in landmarks.DETECTORS:
        assert create_detector(name).name == name


@pytest.mark.slow
def test_mediapipe_finds_the_painted_face_where_it_is(mona_lisa: np.ndarray) -> None:
    (face,) = create_detector().detect(mona_lisa)
    eye_left, eye_right = face.landmarks[36:42].mean(axis=0), face.landmarks[42:48].mean(axis=0)
    # Read off the picture by eye: her pupils, the tip of her nose, the middle of her mouth.
    assert eye_left == pytest.approx([305, 253], abs=14)
    assert eye_right == pytest.approx([392, 252], abs=14)
    assert face.landmarks[48:60].mean(axis=0) == pytest.approx([344, 361], abs=14)
    assert face.landmarks[8, 1] > face.landmarks[57, 1] > face.landmarks[33, 1] > eye_left[1] > face.landmarks[19, 1]


@pytest.mark.slow
def test_a_mirrored_picture_has_mirrored_landmarks(mona_lisa: np.ndarray) -> None:
    detector = create_detector()
    (face,) = detector.detect(mona_lisa)
    (mirrored,) = detector.detect(np.ascontiguousarray(mona_lisa[:, ::-1]))
    back = mirrored.landmarks[MIRROR] * [-1, 1] + [mona_lisa.shape[1] - 1, 0]
    error = np.linalg.norm(back - face.landmarks, axis=1)
    assert np.median(error) < 0.05 * face_size(face)


@pytest.mark.slow
def test_faces_come_largest_first_and_none_is_none(mona_lisa: np.ndarray) -> None:
    detector = create_detector()
    large = mona_lisa[100:600, 120:570]
    small = cv2.resize(large, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    both = np.zeros((500, 810, 3), np.uint8)
    both[: small.shape[0], :360] = small
    both[:, 360:] = large
    faces = detector.detect(both)
    assert len(faces) == 2
    assert face_size(faces[0]) == pytest.approx(face_size(faces[1]) / 0.8, rel=0.1)
    assert faces[0].box[0] > 360 > faces[1].box[2]
    assert detector.detect(np.zeros((200, 200, 3), np.uint8)) == []


@pytest.mark.slow
def test_the_tracker_follows_and_stands_a_broken_clock(mona_lisa: np.ndarray) -> None:
    detector = create_detector()
    (alone,) = detector.detect(mona_lisa)
    tracker = detector.tracker()
    for shift, timestamp_us in ((0, 0), (6, 40_000), (12, 80_000), (18, 120_000)):
        (face,) = tracker.follow(np.roll(mona_lisa, shift, axis=1), timestamp_us)
        assert face.landmarks[30] == pytest.approx(alone.landmarks[30] + [shift, 0], abs=5)
    for timestamp_us in (120_000, 10):
        assert len(tracker.follow(mona_lisa, timestamp_us)) == 1
    assert tracker.follow(np.zeros_like(mona_lisa), 200_000) == []
    tracker.close()
    tracker.close()


@pytest.mark.slow
def test_a_tracker_that_is_lost_in_a_cycle_does_not_hang_the_collector() -> None:
    tracker = create_detector().tracker()
    tracker.myself = tracker  # type: ignore[attr-defined]
    del tracker
    gc.collect()


@pytest.mark.slow
def test_face_alignment_runs_on_weights_from_the_torch_hub_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mona_lisa: np.ndarray
) -> None:
    """Random weights of the right shape: what is tested is the loading, the calls and the shapes, not the points."""
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # compiling takes longer than what is compiled
    from face_alignment.detection.sfd.net_s3fd import s3fd
    from face_alignment.models import FAN

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    # Sure of the background everywhere. Random weights would give thousands of faces.
    weights = {name: torch.zeros_like(value) for name, value in s3fd().state_dict().items()}
    for name, value in weights.items():
        if name.endswith("_conf.bias"):
            value[:-1] = 10
    torch.save(weights, folder / S3FD)
    torch.save(FAN(4).state_dict(), folder / FAN4)
    assert set(landmarks.require_weights("face-alignment")) == {S3FD, FAN4}
    detector = FaceAlignmentDetector()
    image = mona_lisa[150:470:2, 170:490:2]
    assert detector.detect(image) == []
    tracker = detector.tracker()
    tracker._box = [40.0, 20.0, 120.0, 130.0, 1.0]  # type: ignore[attr-defined]
    tracker.min_score = 0.0  # type: ignore[attr-defined]
    (face,) = tracker.follow(image, 0)
    assert face.landmarks.shape == (68, 2)
    assert 0 <= face.score <= 1


def test_missing_weights_say_where_they_belong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import face_alignment

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(face_alignment, "FaceAlignment", fail)
    with pytest.raises(ValueError, match=r"2DFAN4-11f355bf06\.pth\.tar in .*checkpoints: no route"):
        landmarks.require_weights("face-alignment")
