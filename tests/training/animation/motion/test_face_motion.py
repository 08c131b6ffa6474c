"""The canonical head's track: its landmarks give back the pose and the actions that were put in."""

from fractions import Fraction

import numpy as np
import pytest

from pipelines.faces.head_pose import CANONICAL_LANDMARKS, MIRRORED, eye_openness, fit_pose
from pipelines.media.frame_times import FrameTimes
from pipelines.synthetic.head.arkit_actions import MIRRORED as MIRRORED_ACTIONS
from pipelines.synthetic.head.arkit_actions import action_index, vector
from pipelines.synthetic.head.landmark_head import load_landmark_head
from training.animation.driver_track import DriverTrack
from training.animation.motion.face_motion import FaceMotion, to_track
from training.animation.retarget import MotionOptions, retarget


def track(actions: dict[str, float] | None = None, angles: tuple[float, float, float] = (0, 0, 0)) -> DriverTrack:
    """One frame."""
    motion = FaceMotion(
        vector({name: float(weight) for name, weight in (actions or {}).items()})[None], np.array([angles], np.float64)
    )
    return to_track(motion, FrameTimes(np.zeros(1), Fraction(25), constant=True), "mediapipe", exact=True)


def rest_of(made: DriverTrack) -> np.ndarray:
    assert made.rest is not None
    return made.rest.landmarks


@pytest.mark.parametrize("angles", [(12, 0, 0), (-30, 0, 0), (0, 15, 0), (0, 0, -20), (12, 10, 5)])
def test_the_pose_of_the_landmarks_is_the_one_asked_for(angles: tuple[float, float, float]) -> None:
    pose = fit_pose(track(angles=angles).landmarks[0])
    assert (float(pose.yaw), float(pose.pitch), float(pose.roll)) == pytest.approx(angles, abs=0.01)


def test_no_action_is_the_rest() -> None:
    still = track()
    assert np.array_equal(still.landmarks[0], rest_of(still))
    assert still.gaze[0] == pytest.approx(np.array([[0.5, 0], [0.5, 0]]), abs=1e-6)


def test_the_open_jaw_parts_the_inner_lips_by_the_heads_own_displacement() -> None:
    """The file's displacement in centimetres of the mean head, at the width of the canonical head's mouth."""
    opened, head = track({"jawOpen": 1}), load_landmark_head()
    moved = head.actions[action_index("jawOpen")]
    width = np.hypot(*(CANONICAL_LANDMARKS[54] - CANONICAL_LANDMARKS[48])[:2])
    its_width = np.hypot(*(head.points[54] - head.points[48])[:2])
    expected = (moved[66, 1] - moved[62, 1]) * width / its_width
    change = opened.landmarks[0] - rest_of(opened)
    assert (change[66, 1] - change[62, 1]) / 40 == pytest.approx(expected, rel=1e-3)  # 40 pixels a centimetre
    assert 3.5 < expected < 6
    assert np.abs(change[36:48]).max() < 2  # the eyes stay


def test_a_blink_shuts_one_eye() -> None:
    shut = track({"eyeBlinkLeft": 0.85})
    before, after = eye_openness(rest_of(shut)), eye_openness(shut.landmarks[0])
    assert after[1] < 0.25 * before[1]  # the person's left eye is at the picture's right
    assert after[0] == pytest.approx(before[0], abs=0.01)


def test_eyes_look_where_the_actions_say() -> None:
    """38 degrees of an eyeball of 1.2 cm in an eye of 2.59 cm: .5 + 1.2 sin 38 / 2.59 = .785."""
    right = track({"eyeLookOutLeft": 1, "eyeLookInRight": 1}).gaze[0]
    assert right[:, 0] == pytest.approx([0.785, 0.785], abs=0.01)
    up = track({"eyeLookUp": 1}).gaze[0]
    assert up[:, 1] == pytest.approx([-0.2175] * 2, abs=0.01)  # 1.2 sin 28 / 2.59, upwards
    assert track({"eyeLookDown": 0.5}).gaze[0, 0, 1] > 0.1


def test_the_head_is_symmetric() -> None:
    head = load_landmark_head()
    points, mirror = head.points, [*MIRRORED]
    assert points == pytest.approx(points[mirror] * (-1, 1, 1), abs=1e-3)
    assert head.actions[MIRRORED_ACTIONS] == pytest.approx(head.actions[:, mirror] * (-1, 1, 1), abs=1e-3)


def test_a_portrait_follows_from_its_own_shape() -> None:
    """At rest the portrait's landmarks stay, wherever the frame at rest would be guessed."""
    source = (CANONICAL_LANDMARKS[:, :2] * [9, 8] + [100, 120]).astype(np.float32)
    made = track({"mouthSmile": 1})
    both = np.stack([made.landmarks[0], rest_of(made)])
    moved = retarget(source, both, 25.0, MotionOptions(smoothing=0.0), rest_of(made))
    assert moved[1] == pytest.approx(source, abs=1e-3)
    assert np.linalg.norm(moved[0, 54] - moved[0, 48]) > 1.15 * np.linalg.norm(source[54] - source[48])
    assert (moved[0, [48, 54], 1] < source[[48, 54], 1] - 4).all()
