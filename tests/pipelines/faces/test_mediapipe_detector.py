import gc
import subprocess
import sys
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from pipelines import assets
from pipelines.faces import head_pose
from pipelines.faces.detectors import create_detector
from pipelines.faces.face import Candidates, face_size
from pipelines.faces.mediapipe_detector import MEDIAPIPE_TO_IBUG, MeshReader
from pipelines.faces.second_look import FrameByFrame
from pipelines.media import images, video

# iBUG points that mirror each other: i <-> MIRROR[i].
MIRROR = [
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31,
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
]  # fmt: skip


@pytest.fixture(scope="module")
def mona_lisa() -> np.ndarray:
    return images.read_image(assets.fetch("mona_lisa"))


@pytest.fixture(scope="module")
def frames() -> list[video.Frame]:
    """Twelve frames of a man on a phone, 176x144."""
    return list(video.decode(assets.fetch("clip_carphone"), frame_indices=range(0, 96, 8)))


@pytest.mark.slow
def test_detecting_imports_no_plotting_which_still_can_be_imported() -> None:
    code = """if True:
        import sys
        import numpy as np
        from pipelines.faces.detectors import create_detector
        assert create_detector("mediapipe").detect(np.zeros((64, 64, 3), np.uint8)) == []
        assert not {"matplotlib", "matplotlib.pyplot", "sounddevice"} & sys.modules.keys()
        import matplotlib.pyplot as plots
        assert callable(plots.figure)
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_map_takes_68_different_points() -> None:
    assert len(set(MEDIAPIPE_TO_IBUG.tolist())) == 68
    assert 0 <= MEDIAPIPE_TO_IBUG.min() <= MEDIAPIPE_TO_IBUG.max() < 478


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
def test_irises_are_seen_where_they_are(mona_lisa: np.ndarray) -> None:
    detector = create_detector()
    (face,), (mirrored,) = (
        detector.detect(np.ascontiguousarray(picture)) for picture in (mona_lisa, mona_lisa[:, ::-1])
    )
    assert face.gaze is not None
    assert mirrored.gaze is not None
    # Read off the picture by eye: middles of her irises at 302.5 and 384, in eyes from 280 to 319 and from 353 to 402.
    assert face.gaze[:, 0] == pytest.approx([22.5 / 39, 31 / 49], abs=0.06)
    assert mirrored.gaze[::-1, 0] == pytest.approx(1 - face.gaze[:, 0], abs=0.06)


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
def test_every_frame_is_detected_by_itself(mona_lisa: np.ndarray) -> None:
    """So a clip's result depends neither on the clips before nor on a broken clock, and a face lost is lost at once."""
    detector = create_detector()
    images = [mona_lisa, np.roll(mona_lisa, 40, axis=1), np.zeros_like(mona_lisa), mona_lisa]
    clip = Candidates([video.Frame(n, 0, image) for n, image in enumerate(images)], {})
    other = Candidates([video.Frame(0, 0, np.ascontiguousarray(mona_lisa[:, ::-1]))], {})
    first, _, again = detector.follow([clip, other, clip])
    assert [len(faces) for faces in first] == [1, 1, 0, 1]
    assert first[1][0].landmarks[30] == pytest.approx(first[0][0].landmarks[30] + [40, 0], abs=5)
    for one, two in zip(first, again, strict=True):
        assert [face.landmarks.tolist() for face in one] == [face.landmarks.tolist() for face in two]
    assert first[0][0].landmarks.tolist() == first[3][0].landmarks.tolist()


@pytest.mark.slow
def test_a_second_face_is_reported_in_the_frames_that_show_it(mona_lisa: np.ndarray) -> None:
    alone = np.zeros((500, 900, 3), np.uint8)
    alone[:, :450] = mona_lisa[100:600, 120:570]
    both = alone.copy()
    both[:, 450:] = mona_lisa[100:600, 120:570]
    clip = Candidates([video.Frame(0, 0, alone), video.Frame(1, 40_000, both)], {})
    assert [len(faces) for faces in create_detector().follow([clip])[0]] == [1, 2]


@pytest.mark.slow
def test_known_boxes_give_the_same_face_from_a_part_of_the_picture(
    frames: list[video.Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = create_detector()
    assert isinstance(detector, FrameByFrame)
    (free,) = detector.follow([Candidates(frames, {})])
    hints = {frame.index: faces[0].box for frame, faces in zip(frames, free, strict=True)}
    looked_at: list[tuple[int, ...]] = []
    detect: Callable[[np.ndarray], object] = detector.first.detect
    monkeypatch.setattr(detector.first, "detect", lambda image: looked_at.append(image.shape) or detect(image))
    (led,) = detector.follow([Candidates(frames, hints)])
    assert len(looked_at) == len(frames)
    assert all(shape != frames[0].image.shape for shape in looked_at)
    for one, two in zip(free, led, strict=True):
        apart = np.linalg.norm(one[0].landmarks - two[0].landmarks, axis=1).mean()
        assert apart < 0.05 * face_size(one[0])
        assert one[0].gaze is not None
        assert two[0].gaze == pytest.approx(one[0].gaze, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [(300.0, 10.0, 380.0, 90.0), (0.0, 0.0, 20.0, 20.0)])
def test_boxes_that_lead_nowhere_change_nothing(
    frames: list[video.Frame], wrong: tuple[float, float, float, float]
) -> None:
    detector = create_detector()
    free, led = detector.follow([Candidates(frames, {}), Candidates(frames, {frames[0].index: wrong})])
    assert [[face.box for face in faces] for faces in led] == [[face.box for face in faces] for faces in free]


@pytest.mark.slow
def test_a_blink_keeps_its_depth() -> None:
    """The woman's eyes close fully within 24 frames; smoothed over time they would not."""
    clip = list(video.decode(assets.fetch("clip_langer"), frame_indices=range(0, 472, 20)))
    (found,) = create_detector().follow([Candidates(clip, {})])
    openness = head_pose.eye_openness(np.stack([faces[0].landmarks for faces in found])).mean(axis=-1)
    assert openness.min() < 0.08 < 0.3 < openness.max()


@pytest.mark.slow
def test_a_detector_that_is_lost_in_a_cycle_does_not_hang_the_collector(mona_lisa: np.ndarray) -> None:
    detector = create_detector()
    detector.detect(mona_lisa)
    detector.myself = detector  # type: ignore[attr-defined]
    del detector
    gc.collect()


@pytest.mark.slow
def test_the_mesh_holds_the_landmarks_of_the_largest_face(mona_lisa: np.ndarray) -> None:
    mesh = MeshReader().read(mona_lisa)
    (face,) = create_detector().detect(mona_lisa)
    assert mesh is not None
    assert mesh.shape == (478, 2)
    np.testing.assert_allclose(mesh[MEDIAPIPE_TO_IBUG], face.landmarks, atol=0.01)
    assert MeshReader().read(np.zeros((200, 200, 3), np.uint8)) is None
