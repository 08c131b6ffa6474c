"""What is shown while the driver's face is missing: a point that moves one pixel a frame, and a portrait at rest."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest

from pipelines.media.frame_times import FrameTimes, frame_times
from training.animation.checks.missing_face import (
    bridged,
    kept_spans,
    missing_note,
    missing_spans,
    shown_frames,
    towards_rest,
)
from training.animation.driver_track import DriverTrack

FPS = Fraction(10)
REST = np.full((68, 2), 100.0, np.float32)


def track(found: str, times: FrameTimes | None = None) -> DriverTrack:
    """A driver whose face is there where `found` has an x; in frame n all points are at (n, n)."""
    number = len(found)
    landmarks = np.broadcast_to(np.arange(number, dtype=np.float32)[:, None, None], (number, 68, 2)).copy()
    gaze = landmarks[:, :2].copy()
    gaze[[mark == "." for mark in found]] = np.nan
    times = times or frame_times((np.arange(number) / float(FPS)).tolist(), FPS)
    return DriverTrack(landmarks, gaze, np.array([mark == "x" for mark in found]), times, "mediapipe")


def positions(points: np.ndarray) -> list[float]:
    return points[:, 0, 0].round(3).tolist()


def test_the_motion_is_held_and_eases_back_within_three_tenths_of_a_second() -> None:
    held = bridged(track("..xx...xxxx"), "hold")
    # 2 is the first face, 3 the last before the gap. On return, thirds of the way are 7/27 and 20/27 when smoothed.
    back = [3 + (7 - 3) * 7 / 27, 3 + (8 - 3) * 20 / 27]
    first = [2 + (2 - 2) * 7 / 27, 2 + (3 - 2) * 20 / 27]
    assert positions(held.landmarks) == pytest.approx([2, 2, *first, 3, 3, 3, *back, 9, 10], abs=1e-3)
    assert np.isfinite(held.gaze).all()


def test_the_portrait_comes_to_rest_and_begins_there() -> None:
    driver = track("xx....xxx")
    eased = towards_rest(driver.landmarks, REST, driver)
    two_thirds, third = 20 / 27, 7 / 27
    expected = [0, 1, 2 * two_thirds + 100 * third, 3 * third + 100 * two_thirds, 100, 100]
    expected += [6 * third + 100 * two_thirds, 7 * two_thirds + 100 * third, 8]
    assert positions(eased) == pytest.approx(expected, abs=1e-3)
    assert positions(bridged(driver, "rest").landmarks)[2:6] == [1, 1, 1, 1]  # eased from the last motion
    late = track("..x")
    assert positions(towards_rest(late.landmarks, REST, late))[:2] == [100, 100]


@pytest.mark.parametrize("choice", ["fill", "hold", "rest", "cut", "fail"])
def test_a_face_that_is_always_there_is_followed_as_it_is(choice: str) -> None:
    driver = track("xxx")
    assert bridged(driver, choice) is driver  # type: ignore[arg-type]
    assert missing_note(driver, choice) is None  # type: ignore[arg-type]
    assert kept_spans(driver, choice) is None  # type: ignore[arg-type]
    assert towards_rest(driver.landmarks, REST, driver) is driver.landmarks


@pytest.mark.parametrize(
    ("fps", "drawn", "repeats"), [(None, [0, 1, 4, 5], [1, 1, 1, 1]), (Fraction(20), [0, 1, 4, 5], [2, 2, 2, 2])]
)
def test_cut_leaves_out_frames_and_their_time(fps: Fraction | None, drawn: list[int], repeats: list[int]) -> None:
    schedule = shown_frames(track("xx..xx"), fps, "cut")
    assert (schedule.drawn.tolist(), schedule.repeats.tolist()) == (drawn, repeats)
    assert np.allclose(kept_spans(track("xx..xx"), "cut"), [(0, 0.2), (0.4, 0.6)])
    assert shown_frames(track("xx..xx"), None, "fill").drawn.tolist() == list(range(6))


def test_cut_keeps_how_long_each_frame_of_a_variable_rate_is_shown() -> None:
    """Of frames at 0, 0.1, 0.5, 0.6 and 0.7 s, the second lasts 0.4 s."""
    times = frame_times([0.0, 0.1, 0.5, 0.6, 0.7], FPS)
    schedule = shown_frames(track(".xx.x", times), None, "cut")
    assert schedule.drawn.tolist() == [1, 2, 4]
    assert schedule.seconds == pytest.approx([0, 0.4, 0.5])
    assert np.allclose(kept_spans(track(".xx.x", times), "cut"), [(0.1, 0.6), (0.7, 0.8)])


@pytest.mark.parametrize(
    ("found", "spans"),
    [("xxx", []), ("..x", [(0, 0.2)]), ("x..", [(0.1, 0.3)]), (".x.x", [(0, 0.1), (0.2, 0.3)])],
)
def test_spans_are_those_of_the_frames_without_a_face(found: str, spans: Sequence[tuple[float, float]]) -> None:
    driver = track(found)
    assert np.ravel(missing_spans(driver.found, driver.times)).tolist() == pytest.approx(np.ravel(spans).tolist())


def test_the_note_says_how_many_and_when_and_fail_refuses_with_it() -> None:
    driver = track("x.xx..x")
    said = "no face in 3 of 7 driver frames (0.10-0.20 s, 0.40-0.60 s): "
    assert missing_note(driver, "fill") == f"{said}the motion there is filled in"
    with pytest.raises(ValueError, match=r"no face in 3 of 7 driver frames \(0.10-0.20 s, 0.40-0.60 s\): --on-missing"):
        bridged(driver, "fail")
    many = missing_note(track("x." * 8), "cut")
    assert many is not None
    assert "and 3 more" in many
