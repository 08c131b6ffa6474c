import numpy as np
import pytest

from pipelines import assets
from pipelines.faces.detectors import create_detector, require_weights
from pipelines.faces.dlib_detector import dlib_square
from pipelines.faces.face import Candidates
from pipelines.media import video


@pytest.fixture(scope="module")
def frames() -> list[video.Frame]:
    """Ten frames of a man, 640x360."""
    return list(video.decode(assets.fetch("clip_single_face"), frame_indices=range(0, 70, 7)))


def test_the_square_is_nearly_as_large_as_the_box_and_moves_towards_the_points() -> None:
    """A box of 80x125 has the mean side 100: a square of 94; points 10 to the left of its middle move it by 4.2."""
    points = np.array([[20.0, 72.5], [60, 72.5], [40, 82.5], [25, 92.5], [55, 92.5]])
    assert dlib_square((10.0, 20.0, 90.0, 145.0), points) == (-1, 36, 93, 130)


@pytest.mark.slow
def test_its_points_are_near_mediapipes_on_a_real_clip(frames: list[video.Frame]) -> None:
    clip = Candidates(frames, {})
    for dlib, mediapipe in zip(
        create_detector("dlib").follow([clip])[0], create_detector().follow([clip])[0], strict=True
    ):
        (one,), (other,) = dlib, mediapipe
        eyes = np.linalg.norm(other.landmarks[36] - other.landmarks[45])
        apart = np.linalg.norm(one.landmarks - other.landmarks, axis=1) / eyes
        assert apart[17:].mean() < 0.045
        assert apart.mean() < 0.08


@pytest.mark.slow
def test_known_boxes_give_the_same_face_and_wrong_ones_change_nothing(frames: list[video.Frame]) -> None:
    detector = create_detector("dlib")
    (free,) = detector.follow([Candidates(frames, {})])
    hints = {frame.index: faces[0].box for frame, faces in zip(frames, free, strict=True)}
    led, astray = detector.follow([Candidates(frames, hints), Candidates(frames, {0: (0.0, 0.0, 30.0, 30.0)})])
    for one, two, three in zip(free, led, astray, strict=True):
        eyes = np.linalg.norm(one[0].landmarks[36] - one[0].landmarks[45])
        assert np.linalg.norm(one[0].landmarks - two[0].landmarks, axis=1).mean() < 0.05 * eyes
        assert three[0].landmarks.tolist() == one[0].landmarks.tolist()


@pytest.mark.slow
def test_no_face_is_an_empty_list_and_its_files_are_named() -> None:
    assert create_detector("dlib").detect(np.zeros((120, 160, 3), np.uint8)) == []
    assert require_weights("dlib") == {assets.find(n).file: assets.find(n).sha256 for n in ("dlib_68", "yunet")}
