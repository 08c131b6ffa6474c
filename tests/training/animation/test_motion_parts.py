"""Transferring parts of the motion, and expression relative to a neutral face."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from pipelines.faces.head_pose import CANONICAL_LANDMARKS, fit_pose
from pipelines.media.frame_times import FrameTimes
from pipelines.synthetic.head.arkit_actions import vector
from training.animation.gaze import retarget_gaze
from training.animation.motion.face_motion import FaceMotion, to_track
from training.animation.motion.fit_actions import without_expression
from training.animation.retarget import PARTS, MotionOptions, parse_parts, retarget

SOURCE = (CANONICAL_LANDMARKS[:, :2] * [9, 8] + [100, 120]).astype(np.float32)
POINTS = {
    "lips": [*range(17), *range(27, 36), *range(48, 68)],
    "eyes": [*range(36, 48)],
    "brows": [*range(17, 27)],
}


@pytest.fixture(scope="module")
def moved() -> Callable[..., np.ndarray]:
    """`moved("lips", ...)`: change of SOURCE's landmarks by a driver who moves everything."""
    everything = {"jawOpen": 0.4, "eyeBlink": 0.5, "browInnerUp": 1.0, "browOuterUp": 1.0, "noseSneer": 0.5}
    motion = FaceMotion(vector(everything)[None], np.array([[12.0, 5.0, 4.0]]))
    track = to_track(motion, FrameTimes(np.zeros(1), Fraction(25), constant=True), "mediapipe", exact=True)
    assert track.rest is not None
    rest = track.rest.landmarks

    def make(*parts: str) -> np.ndarray:
        options = MotionOptions(smoothing=0.0, parts=parts)
        return np.asarray(retarget(SOURCE, track.landmarks, 25.0, options, rest)[0] - SOURCE)

    return make


@pytest.mark.parametrize("part", POINTS)
def test_one_part_leaves_the_others_where_they_are(moved: Callable[..., np.ndarray], part: str) -> None:
    change = np.linalg.norm(moved(part), axis=-1)
    others = [point for point in range(68) if point not in POINTS[part]]
    assert change[others].max() < 0.01
    assert change[POINTS[part]].max() > 2


def test_the_pose_alone_turns_the_head_as_it_is(moved: Callable[..., np.ndarray]) -> None:
    pose, before = fit_pose(SOURCE + moved("pose")), fit_pose(SOURCE)
    assert float(pose.yaw - before.yaw) == pytest.approx(28 * np.tanh(12 / 28), abs=1)  # the soft limit
    opened = moved("pose", "lips")
    assert np.abs(moved("pose") - opened)[POINTS["lips"]].max() > 2
    assert np.abs(moved(*PARTS) - opened)[POINTS["eyes"]].max() > 1


def test_gaze_is_a_part() -> None:
    looks = np.full((5, 2, 2), [0.6, 0.0], np.float32)
    rest = np.array([[0.5, 0.0]] * 2, np.float32)
    landmarks = np.repeat(SOURCE[None], 5, axis=0)
    kept = retarget_gaze(rest, looks, landmarks, 25.0, MotionOptions(parts=("lips", "pose")), rest)
    turned = retarget_gaze(rest, looks, landmarks, 25.0, MotionOptions(parts=("gaze",)), rest)
    assert kept == pytest.approx(np.repeat(rest[None], 5, axis=0))
    assert turned[:, :, 0].min() > 0.58


def test_names_of_parts() -> None:
    assert parse_parts("gaze,lips") == parse_parts(" lips gaze ") == ("lips", "gaze")
    with pytest.raises(ValueError, match="parts must be of lips, eyes, pose, brows, gaze, got 'nose'"):
        parse_parts("lips,nose")
    for nothing in ("", " , "):
        with pytest.raises(ValueError, match="parts must name at least one of lips, eyes"):
            parse_parts(nothing)
    with pytest.raises(ValueError, match="got 'ears'"):
        MotionOptions(parts=("ears",))


def test_an_expression_that_lasts_is_found_and_taken_away() -> None:
    """A driver who smiles in every frame smiles against a neutral face, but not against its own frames."""
    head = CANONICAL_LANDMARKS * [1.03, 0.98, 1]  # a shape of its own
    smile = head + np.tensordot(vector({"mouthSmile": 0.8}), _actions(), 1)
    smiling = (smile[:, :2] * 10 + [200, 200]).astype(np.float32)
    rest = without_expression(smiling)
    driver = np.repeat(smiling[None], 3, axis=0)
    relative = retarget(SOURCE, driver, 25.0, MotionOptions(smoothing=0.0))
    absolute = retarget(SOURCE, driver, 25.0, MotionOptions(smoothing=0.0), rest)
    assert relative == pytest.approx(np.repeat(SOURCE[None], 3, axis=0), abs=0.01)
    width = np.linalg.norm(absolute[0, 54] - absolute[0, 48]) / np.linalg.norm(SOURCE[54] - SOURCE[48])
    assert width > 1.1
    assert (absolute[0, [48, 54], 1] < SOURCE[[48, 54], 1] - 2).all()
    pose, before = fit_pose(absolute[0]), fit_pose(SOURCE)
    assert abs(float(pose.yaw - before.yaw)) < 1


def _actions() -> np.ndarray:
    from training.animation.motion.face_motion import canonical_actions

    return np.asarray(canonical_actions())
