import numpy as np
import pytest

from pipelines.synthetic.head.arkit_actions import GAZE, LIDS, action_index
from pipelines.synthetic.motion import motion
from pipelines.synthetic.motion.motion import (
    ACTIONS_PER_S,
    DEGREES_PER_S,
    GAZE_PER_S,
    LIDS_PER_S,
    MOST_DEGREES,
    MOST_TRAVEL,
    TRAVEL_PER_S,
    Motion,
    draw_motion,
)
from pipelines.synthetic.motion.real_tracks import Track

SMILE_LEFT, SMILE_RIGHT = action_index("mouthSmileLeft"), action_index("mouthSmileRight")
CHEEKS = [action_index("cheekSquintLeft"), action_index("cheekSquintRight")]


def ramp(name: str = "ramp", num_frames: int = 400, side: int = SMILE_LEFT) -> Track:
    """A smile of one side that grows by 1/400 a frame while the head turns by 0.05 degrees a frame."""
    frames = np.arange(num_frames, dtype=np.float32)
    actions = np.zeros((num_frames, 52), np.float32)
    actions[:, side] = frames / 400
    angles = np.stack([0.05 * frames, 0 * frames, 0.02 * frames], axis=-1)
    return Track(name, actions, angles, np.stack([frames / 4000, 0 * frames, 0 * frames], axis=-1))


def draw(seed: int, tracks: tuple[Track, ...] = (), num_frames: int = 100, fps: float = 25.0) -> Motion:
    return draw_motion(np.random.default_rng(seed), tracks, num_frames, fps)


@pytest.mark.slow
@pytest.mark.parametrize("tracks", [(), (ramp(),), (ramp(num_frames=25),)], ids=["none", "long", "short"])
@pytest.mark.parametrize(("num_frames", "fps"), [(1, 25.0), (100, 25.0), (90, 30.0), (750, 12.5)])
def test_every_motion_keeps_its_bounds_and_speeds(tracks: tuple[Track, ...], num_frames: int, fps: float) -> None:
    speeds = np.full(52, ACTIONS_PER_S)
    speeds[GAZE], speeds[LIDS] = GAZE_PER_S, LIDS_PER_S
    for seed in range(20):
        moved = draw(seed, tracks, num_frames, fps)
        assert (len(moved), moved.fps) == (num_frames, fps)
        assert 0 <= moved.actions.min() <= moved.actions.max() <= 1
        assert (np.abs(moved.angles) <= MOST_DEGREES).all()
        assert (np.abs(moved.travel) <= MOST_TRAVEL).all()
        assert (np.abs(np.diff(moved.actions, axis=0)) <= speeds / fps + 1e-5).all()
        assert (np.abs(np.diff(moved.angles, axis=0)) <= DEGREES_PER_S / fps + 1e-4).all()
        assert (np.abs(np.diff(moved.travel, axis=0)) <= TRAVEL_PER_S / fps + 1e-5).all()


def test_bounds_hold_for_tracks_that_are_wild() -> None:
    rng = np.random.default_rng(0)
    wild = Track(
        "wild",
        rng.random((200, 52), np.float32),
        rng.normal(0, 40, (200, 3)).astype(np.float32),
        rng.normal(0, 1, (200, 3)).astype(np.float32),
    )
    for seed in range(10):
        moved = draw(seed, (wild,))
        assert np.abs(np.diff(moved.actions, axis=0)).max() <= LIDS_PER_S / 25 + 1e-5
        assert np.abs(np.diff(moved.angles, axis=0)).max() <= DEGREES_PER_S / 25 + 1e-4
        assert (np.abs(moved.angles) <= MOST_DEGREES).all()


def test_the_same_seed_gives_the_same_motion_and_another_seed_another() -> None:
    one, same, other = draw(3, (ramp(),)), draw(3, (ramp(),)), draw(4, (ramp(),))
    for part in ("actions", "angles", "travel"):
        np.testing.assert_array_equal(getattr(one, part), getattr(same, part))
        assert not np.array_equal(getattr(one, part), getattr(other, part))


def test_motions_blink_speak_look_about_and_turn() -> None:
    motions = [draw(seed) for seed in range(60)]
    actions = np.stack([moved.actions for moved in motions])
    angles = np.stack([moved.angles for moved in motions])
    assert (actions[:, :, LIDS].min(axis=2).max(axis=1) > 0.7).mean() > 0.4  # 4 s, a blink every 2 to 6
    assert (np.ptp(actions[:, :, action_index("jawOpen")], axis=1) > 0.15).mean() > 0.7
    assert (np.ptp(actions[:, :, action_index("eyeLookOutLeft")], axis=1) > 0.1).mean() > 0.5
    assert 8 < angles[:, :, 0].std() < 20
    assert 2 < angles[:, :, 1].std() < 9
    assert 1.5 < angles[:, :, 2].std() < 8
    assert abs(float(np.median(angles[:, :, 0]))) < 5
    assert (np.abs(angles[:, :, 0]).max(axis=1) > 25).mean() > 0.1  # three-quarter views


@pytest.mark.slow
def test_with_tracks_some_faces_and_some_poses_are_theirs() -> None:
    cheek = ramp(side=CHEEKS[0])  # procedural motion mostly leaves cheeks alone
    motions = [draw(seed, (cheek,)) for seed in range(80)]
    slopes = [np.median(np.abs(np.diff(moved.actions[:, CHEEKS].max(axis=1)))) for moved in motions]
    replayed = np.array(slopes) > 1e-4
    assert 0.5 < replayed.mean() < 0.9
    # 0.75 to 1.3 of its size, at 0.8 to 1.25 of its tempo; a few are fading or under an expression most of the time.
    low, high = np.percentile(np.array(slopes)[replayed] * 400, [10, 90])
    assert 0.6 < low < 1 < high < 1.63


def test_replayed_faces_are_mirrored_half_of_the_time_and_poses_with_them() -> None:
    rng = np.random.default_rng(0)
    times = np.arange(50) / 25
    smiles, turns = [], []
    for _ in range(80):
        face = motion._replay_face(rng, (ramp(),), times)
        smiles.append(face[:, SMILE_LEFT].mean() > face[:, SMILE_RIGHT].mean())
        angles, travel = motion._replay_pose(rng, (ramp(),), times)
        assert np.sign(angles[:25, 0].mean()) == np.sign(angles[:25, 2].mean()) == np.sign(travel[:25, 0].mean())
        turns.append(angles[:25, 0].mean() > 0)
    assert 0.3 < np.mean(smiles) < 0.7
    assert 0.3 < np.mean(turns) < 0.7


def test_pieces_fade_into_each_other() -> None:
    times = np.arange(1000) / 25
    constant = Track(
        "c", np.full((100, 52), 0.5, np.float32), np.zeros((100, 3), np.float32), np.zeros((100, 3), np.float32)
    )
    pieces = list(motion._pieces(np.random.default_rng(1), (constant, ramp()), times))
    assert len(pieces) > 6
    np.testing.assert_allclose(np.sum([piece.weights for piece in pieces], axis=0), 1)
    assert all(0 <= piece.weights.min() <= piece.weights.max() <= 1 for piece in pieces)
    only = list(motion._pieces(np.random.default_rng(2), (constant,), times))
    np.testing.assert_allclose(np.sum([piece.sample(constant.actions) for piece in only], axis=0), 0.5, atol=1e-6)


def test_pieces_play_at_four_fifths_to_five_quarters_of_life() -> None:
    times = np.arange(1000) / 25
    tempi = []
    for piece in motion._pieces(np.random.default_rng(3), (ramp(num_frames=4000),), times):
        counted = np.flatnonzero(piece.weights[:, 0] > 0)
        tempi.append(np.diff(piece.positions[counted]).mean())
    assert 0.8 - 1e-6 <= min(tempi) < max(tempi) <= 1.25 + 1e-6


@pytest.mark.parametrize(("num_frames", "fps"), [(0, 25.0), (10, 0.0), (10, -1.0)])
def test_no_frame_or_no_rate_is_refused(num_frames: int, fps: float) -> None:
    with pytest.raises(ValueError, match=f"got {num_frames} frames at {fps} per second"):
        draw(0, (), num_frames, fps)
