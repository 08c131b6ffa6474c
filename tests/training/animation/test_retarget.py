from collections.abc import Callable

import numpy as np
import pytest

from pipelines.faces.head_pose import (
    CANONICAL_LANDMARKS,
    INNER_LIP,
    LEFT_EYE,
    OUTER_LIP,
    RIGHT_EYE,
    eye_openness,
    find_neutral_frame,
    fit_pose,
    mouth_openness,
)
from training.animation.retarget import MotionOptions, retarget, soft_limit
from training.animation.smoothing import fill_gaps, one_euro

MakeFace = Callable[..., np.ndarray]
RAW = MotionOptions(smoothing=0.0, neutral_frame=0)
LIDS = ((37, 41), (38, 40), (43, 47), (44, 46))
LIPS = ((61, 67), (62, 66), (63, 65))


def head(*, eyes: float = 1.0, jaw: float = 0.0, smile: float = 0.0, wide: float = 1.0) -> np.ndarray:
    """The canonical head with its eyes open by a share, its mouth open or wide (cm), its whole face wide."""
    changed = CANONICAL_LANDMARKS.copy()
    for eye in (RIGHT_EYE, LEFT_EYE):
        middle = changed[eye][[0, 3], 1].mean()
        changed[eye, 1] = middle + eyes * (changed[eye, 1] - middle)
    changed[[55, 56, 57, 58, 59, 65, 66, 67], 1] += jaw
    changed[[48, 60], 0] -= smile
    changed[[54, 64], 0] += smile
    changed[:, 0] *= wide
    return changed


@pytest.fixture
def source(face: MakeFace) -> np.ndarray:
    """Another person: a wider face with larger eyes, a little turned."""
    return face(90, 70, 90, yaw=8, pitch=-4, roll=3, head=head(wide=1.1, eyes=1.2))


@pytest.fixture
def driver(face: MakeFace) -> np.ndarray:
    """Neutral, blink, mouth open, smile, turned, tilted."""
    return np.stack(
        [
            face(60, 50, 60),
            face(60, 50, 60, head=head(eyes=0.0)),
            face(60, 50, 60, head=head(jaw=1.5)),
            face(60, 50, 60, head=head(smile=0.6)),
            face(62, 53, 61, yaw=15, pitch=5),
            face(58, 49, 60, roll=-12),
        ]
    )


def test_at_the_drivers_neutral_frame_the_source_is_itself(source: np.ndarray, driver: np.ndarray) -> None:
    moved = retarget(source, driver, 25.0, RAW)
    assert np.abs(moved[0] - source).max() < 1e-3
    assert moved.shape == (6, 68, 2)
    assert moved.dtype == np.float32
    again = retarget(source, driver, 25.0, MotionOptions(neutral_frame=3))
    assert np.abs(again[3] - source).max() < 1e-3


def test_strength_zero_leaves_the_source_still(source: np.ndarray, driver: np.ndarray) -> None:
    still = retarget(source, driver, 25.0, MotionOptions(expression=0.0, head_motion=0.0))
    assert np.abs(still - source).max() < 1e-3


@pytest.mark.parametrize("smoothing", [0.0, 0.5, 1.0])
def test_the_drivers_size_and_place_do_not_matter(smoothing: float, source: np.ndarray, driver: np.ndarray) -> None:
    options = MotionOptions(smoothing=smoothing)
    moved = retarget(source, driver, 25.0, options)
    elsewhere = retarget(source, (driver * 3.7 + [400, -90]).astype(np.float32), 25.0, options)
    assert np.abs(moved - elsewhere).max() < 0.05


@pytest.mark.parametrize("share", [0.7, 0.4, 0.2])
def test_eyes_close_by_the_drivers_share(share: float, source: np.ndarray, face: MakeFace) -> None:
    driver = np.stack([face(60, 50, 60), face(60, 50, 60, head=head(eyes=share))])
    moved = retarget(source, driver, 25.0, RAW)
    assert eye_openness(driver)[1] == pytest.approx(share * eye_openness(driver)[0], rel=0.02)
    assert eye_openness(moved)[1] == pytest.approx(share * eye_openness(source), rel=0.08)


def test_a_blink_of_one_eye_stays_on_its_side_of_the_picture(source: np.ndarray, face: MakeFace) -> None:
    wink = CANONICAL_LANDMARKS.copy()
    wink[RIGHT_EYE, 1] = wink[RIGHT_EYE][[0, 3], 1].mean()
    moved = retarget(source, np.stack([face(), face(head=wink)]), 25.0, RAW)
    right, left = eye_openness(moved)[1] / eye_openness(source)
    assert right < 0.2
    assert left == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("expression", [1.0, 3.0])
def test_lids_and_lips_never_cross(expression: float, source: np.ndarray, driver: np.ndarray, face: MakeFace) -> None:
    crossed = face(60, 50, 60, head=head(eyes=-0.8, jaw=-0.4))
    driver = np.concatenate([driver, crossed[None]])
    options = MotionOptions(smoothing=0.0, neutral_frame=0, expression=expression, head_motion=0.0)
    moved = retarget(source, driver, 25.0, options)
    pose = fit_pose(moved)
    up = np.stack([np.sin(np.radians(pose.roll)), np.cos(np.radians(pose.roll))], axis=-1)  # down, in the head
    for upper, lower in LIDS + LIPS:
        gap = ((moved[:, lower] - moved[:, upper]) * up).sum(axis=-1)
        assert gap.min() > -0.2, (upper, lower)


def test_eyes_open_no_further_than_the_portrait_can_show(source: np.ndarray, face: MakeFace) -> None:
    driver = np.stack([face(60, 50, 60, head=head(eyes=0.5)), face(60, 50, 60, head=head(eyes=3.0))])
    moved = retarget(source, driver, 25.0, RAW)
    assert np.all(eye_openness(moved)[1] < 1.45 * eye_openness(source))
    assert np.all(eye_openness(moved)[1] > 1.2 * eye_openness(source))


def test_the_mouth_opens_and_smiles_as_the_drivers(source: np.ndarray, driver: np.ndarray) -> None:
    moved = retarget(source, driver, 25.0, RAW)
    assert mouth_openness(moved)[2] > mouth_openness(source) + 0.6 * (mouth_openness(driver)[2] - 0.1)

    def width(points: np.ndarray) -> float:
        return float(np.linalg.norm(points[54] - points[48]))

    assert width(moved[3]) / width(source) == pytest.approx(width(driver[3]) / width(driver[0]), rel=0.03)
    half = retarget(source, driver, 25.0, MotionOptions(smoothing=0.0, neutral_frame=0, expression=0.5))
    assert width(half[3]) - width(source) == pytest.approx((width(moved[3]) - width(source)) / 2, rel=0.05)


def test_the_face_keeps_its_own_shape(source: np.ndarray, driver: np.ndarray) -> None:
    """The source is wider than the driver, and stays so in every frame that moves no jaw."""
    moved = retarget(source, driver, 25.0, RAW)

    def wide(points: np.ndarray) -> float:
        pose = fit_pose(points)
        return float(np.linalg.norm(points[16] - points[0]) / pose.scale / np.cos(np.radians(pose.yaw)))

    for frame in (1, 3, 5):
        assert wide(moved[frame]) == pytest.approx(wide(source), rel=0.02)
        assert wide(driver[frame]) < 0.97 * wide(source)


@pytest.mark.parametrize(
    ("angle", "limit"), [("yaw", 40.0), ("pitch", 25.0), ("roll", 45.0)], ids=["yaw", "pitch", "roll"]
)
def test_small_turns_are_followed_exactly_and_large_ones_up_to_a_limit(
    angle: str, limit: float, face: MakeFace
) -> None:
    # The picture's own turn is 0: three tenths of the limit are exact.
    turns = np.array([0, 0.15, -0.3, 0.6, 1, 1.5, -1.5]) * limit
    driver = np.stack([face(60, 50, 60, **{angle: turn}) for turn in turns])
    followed = getattr(fit_pose(retarget(face(90, 70, 90), driver, 25.0, RAW)), angle)
    assert followed[1:3] == pytest.approx([0.15 * limit, -0.3 * limit], abs=0.05)
    # .3 + .7 tanh((share - .3) / .7) of the limit: tanh(.4286) = .4041, tanh(1) = .7616, tanh(1.7143) = .9370
    bent = np.array([0.5829, 0.8331, 0.9559, -0.9559]) * limit
    assert followed[3:] == pytest.approx(bent, abs=0.1)


def test_a_face_turned_aside_stays_within_the_angle_and_the_change(face: MakeFace) -> None:
    """From 20 degrees on it turns by 20 more, and by 40 back, since its picture hides the other side."""
    driver = np.stack([face(60, 50, 60, yaw=yaw) for yaw in (0, 4, 70, -70)])
    source = face(90, 70, 90, yaw=20)
    moved = fit_pose(retarget(source, driver, 25.0, RAW)).yaw
    assert moved[:2] == pytest.approx([20, 24], abs=0.1)
    assert 39 < moved[2] <= 40.05
    assert -20.05 <= moved[3] < -18.5
    wild = MotionOptions(expression=0.0, head_motion=3.0, smoothing=0.0, neutral_frame=0)
    assert fit_pose(retarget(source, driver, 25.0, wild)).yaw[2:] == pytest.approx([40, -20], abs=0.1)


def test_a_face_beyond_the_limit_may_turn_a_little(face: MakeFace) -> None:
    driver = np.stack([face(60, 50, 60, yaw=yaw) for yaw in (0, 1, 70)])
    moved = fit_pose(retarget(face(90, 70, 90, yaw=50), driver, 25.0, RAW)).yaw
    assert moved == pytest.approx([50, 51, 54], abs=0.1)


def test_the_limit_is_monotonic_and_smooth() -> None:
    changes = np.linspace(-100, 100, 4001)
    for exact in (0.0, 0.3):
        bent = soft_limit(changes, 30.0, 40.0, 4.0, exact=exact)
        slope = np.diff(bent) / np.diff(changes)
        assert slope.min() >= 0
        assert slope.max() <= 1 + 1e-9  # jitter is not amplified
        assert np.abs(np.diff(slope)).max() < 0.01  # no kink
        assert -30 <= bent[0] < -29
        assert 39 < bent[-1] <= 40
    assert soft_limit(np.array([-9.0, 12.0]), 30.0, 40.0, 4.0, exact=0.3).tolist() == pytest.approx([-9, 12])
    assert soft_limit(np.array([100.0]), 30.0, 0.0, 4.0) == pytest.approx(4)


def test_a_head_that_travels_stays_in_the_picture(source: np.ndarray, face: MakeFace) -> None:
    driver = np.stack([face(60, 50, 60), face(60, 53, 60), face(60, 500, -300), face(200, 50, 60), face(20, 50, 60)])
    moved = retarget(source, driver, 25.0, RAW)
    size = np.ptp(source, axis=0)
    assert 0 < (moved[1] - source)[:, 0].mean() < 0.15 * size[1]
    # Far beyond the limits: four tenths of the face's height to the right and up, 40 % larger or smaller.
    assert (moved[2] - source).mean(axis=0) / size[1] == pytest.approx([0.4, -0.4], abs=0.005)
    assert np.ptp(moved[3], axis=0) / size == pytest.approx(1.4, abs=0.01)
    assert np.ptp(moved[4], axis=0) / size == pytest.approx(1 / 1.4, abs=0.01)


def test_who_leans_aside_or_comes_nearer_is_followed(face: MakeFace) -> None:
    source, neutral = face(90, 70, 90), face(60, 50, 60)
    height, own = np.ptp(neutral[:, 1]), np.ptp(source, axis=0)
    aside, further = (neutral + np.array([share * height, 0], np.float32) for share in (0.1, 0.3))
    moved = retarget(source, np.stack([neutral, aside, further, face(66, 50, 60), face(78, 50, 60)]), 25.0, RAW)
    shifts = (moved - source)[:, :, 0].mean(axis=1) / own[1]
    assert shifts[1] == pytest.approx(0.1, abs=1e-3)
    assert shifts[2] == pytest.approx(0.279, abs=1e-3)  # .4 (.3 + .7 tanh((.75 - .3) / .7))
    assert np.ptp(moved[3], axis=0) / own == pytest.approx(1.1, abs=1e-3)
    # The logarithm of 1.3 is .780 of that of 1.4, of which .3 + .7 tanh((.780 - .3) / .7) = .717 remain: 1.4 ** .717
    assert np.ptp(moved[4], axis=0) / own == pytest.approx(1.273, abs=2e-3)


def test_neutral_is_frontal_with_open_eyes_and_a_shut_mouth(driver: np.ndarray, face: MakeFace) -> None:
    assert find_neutral_frame(driver) == 0
    assert find_neutral_frame(driver[::-1]) == 5
    # A blink and an open mouth that are more frontal than rest.
    frames = [
        face(yaw=2),
        face(head=head(eyes=0.1)),
        face(head=head(jaw=1.0)),
        face(yaw=2.5),
        face(head=head(smile=0.7)),
    ]
    assert find_neutral_frame(np.stack(frames)) in (0, 3)


def test_neutral_has_open_eyes_though_they_are_shut_most_of_the_time(face: MakeFace) -> None:
    shut = [face(yaw=yaw / 10, head=head(eyes=0.1)) for yaw in range(9)]
    assert find_neutral_frame(np.stack([*shut[:5], face(yaw=3), *shut[5:]])) == 5


def test_a_neutral_frame_that_is_none_is_refused(source: np.ndarray, driver: np.ndarray) -> None:
    for frame in (6, -1):
        with pytest.raises(ValueError, match=f"neutral_frame {frame} is not one of the driver's 6 frames"):
            retarget(source, driver, 25.0, MotionOptions(neutral_frame=frame))


@pytest.mark.parametrize("wrong", [{"smoothing": 1.5}, {"expression": -0.1}, {"head_motion": 3.5}, {"gaze": -1.0}])
def test_strengths_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name} must lie in"):
        MotionOptions(**wrong)  # type: ignore[arg-type]


def test_a_driver_of_one_frame_is_enough(source: np.ndarray, driver: np.ndarray) -> None:
    assert np.abs(retarget(source, driver[4:5], 25.0, MotionOptions()) - source).max() < 1e-3


def test_one_euro_passes_constants_and_strength_zero(driver: np.ndarray) -> None:
    assert one_euro(driver, 25.0, 0.0) is driver
    constant = np.repeat(driver[:1], 10, axis=0)
    assert np.array_equal(one_euro(constant, 25.0, 1.0), constant)
    assert np.array_equal(one_euro(driver[:1], 25.0, 1.0), driver[:1])


def test_one_euro_calms_jitter_and_lets_a_blink_through(face: MakeFace) -> None:
    random = np.random.default_rng(0)
    still = np.repeat(face(300, 200, 200)[None], 60, axis=0)
    jitter = (still + random.normal(0, 0.5, still.shape)).astype(np.float32)
    calm = one_euro(jitter, 25.0, 0.5)
    assert np.std(np.diff(calm, axis=0)) < 0.6 * np.std(np.diff(jitter, axis=0))
    step = np.concatenate([still[:5], still[:5] + 60])
    assert np.abs(one_euro(step, 25.0, 0.5)[6] - step[6]).max() < 20
    harder = one_euro(jitter, 25.0, 1.0)
    assert np.std(np.diff(harder, axis=0)) < np.std(np.diff(calm, axis=0))


def test_gaps_are_filled_by_straight_lines() -> None:
    landmarks = np.zeros((6, 68, 2), np.float32)
    landmarks[1], landmarks[4] = 10.0, 40.0
    landmarks[2] = 999.0  # what a lost frame holds means nothing
    filled = fill_gaps(landmarks, np.array([False, True, False, False, True, False]))
    assert filled[:, 5, 1].tolist() == [10, 10, 20, 30, 40, 40]
    assert filled.dtype == np.float32
    with pytest.raises(ValueError, match="no face found in any frame"):
        fill_gaps(landmarks, np.zeros(6, bool))


def test_the_outline_of_the_lips_opens_together(source: np.ndarray, driver: np.ndarray) -> None:
    moved = retarget(source, driver, 25.0, RAW)
    drop = (moved[2] - source)[:, 1]
    assert drop[57] == pytest.approx(drop[66], rel=0.1)
    assert np.abs(drop[OUTER_LIP][:7]).max() < 0.1 * drop[57]
    assert np.abs(drop[INNER_LIP][:5]).max() < 0.1 * drop[57]


def grin(wider: float) -> np.ndarray:
    """The canonical head, its mouth wider by a share."""
    changed = head()
    changed[48:68, 0] *= 1 + wider
    return changed


@pytest.mark.parametrize(("shown", "wider"), [(0.0, 0.6), (0.1, 0.7), (0.6, 0.6), (0.9, 0.9)])
def test_a_smile_that_the_picture_shows_is_not_added_to_the_drivers(shown: float, wider: float, face: MakeFace) -> None:
    """The driver's mouth becomes wider by 60 %: the result has the wider of both, unless the picture's is so slight
    that it may be its shape. The driver's neutral frame leaves the picture as it is."""
    source, rest = face(90, 70, 90, head=grin(shown)), face(90, 70, 90)
    driver = np.stack([face(60, 50, 60), face(60, 50, 60, head=grin(0.6))])
    # Changes scale with the width of the source's own mouth; here the driver's is as wide as at rest.
    driver[1] = driver[0] + (driver[1] - driver[0]) / min(1 + shown, 1.6)
    moved = retarget(source, driver, 25.0, RAW, source_rest=rest)
    assert np.abs(moved[0] - source).max() < 1e-3
    at_rest, widest = (np.linalg.norm(points[54] - points[48]) for points in (rest, moved[1]))
    assert widest / at_rest - 1 == pytest.approx(wider, abs=0.06)


def test_a_smiling_picture_opens_its_mouth_as_the_drivers(driver: np.ndarray, face: MakeFace) -> None:
    source = face(90, 70, 90, head=grin(0.6))
    moved, plain = (retarget(source, driver, 25.0, RAW, source_rest=rest) for rest in (face(90, 70, 90), None))
    assert np.abs(moved[2] - plain[2]).max() < 0.5
