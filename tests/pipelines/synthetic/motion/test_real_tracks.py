from pathlib import Path

import numpy as np
import pytest

from pipelines import assets
from pipelines.faces.head_pose import CANONICAL_LANDMARKS, Pose
from pipelines.faces.mediapipe_detector import BlendshapeReader
from pipelines.synthetic.head.arkit_actions import action_index, actions_to_gaze
from pipelines.synthetic.motion import real_tracks
from pipelines.synthetic.motion.real_tracks import Reading, Track, load_tracks, make_tracks, tracks_digest

SMILE, LID, JAW = action_index("mouthSmileLeft"), action_index("eyeBlinkLeft"), action_index("jawOpen")


def reading(seconds: float, yaw: float = 0.0, right: float = 0.0, size: float = 1.0, **actions: float) -> Reading:
    """A canonical head of 10 pixels a centimetre times `size`, 200 px from the picture's corner."""
    face = np.zeros(52)
    for name, value in actions.items():
        face[action_index(name)] = value
    place = np.array([200.0 + right, 200.0])
    pose = Pose.from_angles(*(np.array(a) for a in (yaw, 0.0, 0.0, 10.0 * size)), place)
    return Reading(float(seconds), face, pose.project(CANONICAL_LANDMARKS).astype(np.float32))


def steady(begin: float, seconds: float, fps: float = 50.0, **actions: float) -> list[Reading]:
    return [reading(begin + i / fps, **actions) for i in range(round(seconds * fps))]


def test_tracks_have_25_frames_a_second_whatever_the_clip_has() -> None:
    (track,) = make_tracks("a", iter([reading(i / 30) for i in range(61)]))
    assert (len(track), track.name) == (51, "a/0")
    assert (track.actions.dtype, track.angles.shape, track.travel.shape) == (np.float32, (51, 3), (51, 3))


def test_a_track_is_cut_where_the_face_is_lost_and_short_rests_are_dropped() -> None:
    found = make_tracks("a", iter([*steady(0, 2), None, *steady(2.1, 0.5), None, *steady(3, 1.5)]))
    assert [len(track) for track in found] == [50, 38]  # the last readings are at 1.98 and 4.48 s


def test_a_track_is_cut_where_the_face_jumps() -> None:
    elsewhere = [reading(2 + i / 50, right=60.0) for i in range(100)]
    assert len(make_tracks("a", iter([*steady(0, 2), *elsewhere]))) == 2
    beside = [reading(2 + i / 50, right=20.0) for i in range(100)]
    assert len(make_tracks("a", iter([*steady(0, 2), *beside]))) == 1


def test_what_a_face_always_shows_is_no_expression() -> None:
    resting, smiling = steady(0, 4, mouthSmileLeft=0.2), steady(4, 2, mouthSmileLeft=0.6)
    (track,) = make_tracks("a", iter([*resting, *smiling]))
    assert track.actions[10, SMILE] == pytest.approx(0, abs=1e-6)
    assert track.actions[-10, SMILE] == pytest.approx(0.5)  # (0.6 - 0.2) / (1 - 0.2)


def test_a_lid_that_mediapipe_calls_two_thirds_shut_is_shut() -> None:
    blink = [reading(4 + i / 50, eyeBlinkLeft=0.65) for i in range(8)]
    (track,) = make_tracks("a", iter([*steady(0, 4), *blink, *steady(4.16, 2)]))
    assert track.actions[:, LID].max() == 1


def test_resting_gaze_and_pose_become_zero() -> None:
    looks = dict.fromkeys(("eyeLookOutLeft", "eyeLookInRight"), 0.3)
    resting = [reading(i / 25, yaw=10.0, right=30.0, **looks) for i in range(100)]
    other = [reading(4 + i / 25, yaw=16.0, right=30.0 + 15.3) for i in range(50)]
    (track,) = make_tracks("a", iter([*resting, *other]))
    np.testing.assert_allclose(track.angles[50], 0, atol=1e-3)
    np.testing.assert_allclose(track.angles[-1], [6, 0, 0], atol=1e-2)
    # A head is 15.3 cm wide, 153 px here; 3 cm before its neck it goes 3 sin(6 degrees) = 0.31 cm along as it turns.
    np.testing.assert_allclose(track.travel[-1], [0.1 - 0.31 / 15.3, 0, 0], atol=1e-3)
    np.testing.assert_allclose(
        actions_to_gaze(track.actions.astype(np.float64))[[50, -1]], [[0, 0], [-0.3, 0]], atol=1e-6
    )


def test_who_comes_nearer_is_seen_larger() -> None:
    resting, near = [reading(i / 25) for i in range(100)], [reading(4 + i / 25, size=1.1) for i in range(50)]
    (track,) = make_tracks("a", iter([*resting, *near]))
    np.testing.assert_allclose(track.travel[[50, -1], 2], [0, np.log(1.1)], atol=1e-4)


def test_digest_tells_tracks_apart() -> None:
    (track,) = make_tracks("a", iter(steady(0, 2)))
    moved = Track("a", track.actions, track.angles + np.float32(1e-3), track.travel)
    assert tracks_digest([track]) == tracks_digest([track])
    assert len({tracks_digest([track]), tracks_digest([moved]), tracks_digest([track, track]), tracks_digest([])}) == 4


@pytest.fixture
def one_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An empty cache, and a measuring that is counted instead of done."""
    measured: list[str] = []

    def measure(paths: dict[str, Path]) -> tuple[Track, ...]:
        measured.extend(paths)
        return tuple(make_tracks("clip_carphone", iter(steady(0, 2, jawOpen=0.1) + steady(2, 1, jawOpen=0.7))))

    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    monkeypatch.setattr(assets, "fetch_many", lambda names: {name: tmp_path / name for name in names})
    monkeypatch.setattr(real_tracks, "_measure", measure)
    return measured


def test_tracks_are_measured_once_and_a_damaged_file_again(one_clip: list[str], tmp_path: Path) -> None:
    first = load_tracks(["clip_carphone"])
    again = load_tracks(["clip_carphone"])
    assert one_clip == ["clip_carphone"]
    assert tracks_digest(first) == tracks_digest(again)
    assert [track.name for track in again] == ["clip_carphone/0"]
    assert again[0].actions[:, JAW].max() > 0.5
    (file,) = (tmp_path / "motion").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert tracks_digest(load_tracks(["clip_carphone"])) == tracks_digest(first)
    assert len(one_clip) == 2


def test_other_clips_have_tracks_of_their_own(one_clip: list[str], tmp_path: Path) -> None:
    load_tracks(["clip_carphone"])
    load_tracks(["clip_carphone", "clip_single_face"])
    assert one_clip == ["clip_carphone", "clip_carphone", "clip_single_face"]
    assert len(list((tmp_path / "motion").iterdir())) == 2


@pytest.mark.slow
def test_a_real_clip_blinks_and_speaks() -> None:
    reader = BlendshapeReader()
    readings = list(real_tracks._read(assets.fetch("clip_carphone"), reader, _nothing))
    (track,) = make_tracks("clip_carphone", iter(readings))
    assert len(track) == 100  # 120 frames at 29.97
    assert track.actions[:, LID].max() > 0.9
    assert track.actions[:, JAW].max() > 0.4
    assert 5 < np.ptp(track.angles[:, 0]) < 40
    assert reader.read(np.zeros((64, 64, 3), np.uint8)) is None


def _nothing() -> None:
    pass
