from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from pipelines.media.frame_times import FrameTimes, Schedule, frame_times, parse_rate

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize("fps", [Fraction(24000, 1001), NTSC, Fraction(60000, 1001), Fraction(25), Fraction(25, 2)])
@pytest.mark.parametrize("ticks", [1000, 90_000])
def test_a_constant_rate_is_found_however_coarse_the_clock_and_wrong_the_header(fps: Fraction, ticks: int) -> None:
    seconds = [round(i / fps * ticks) / ticks for i in range(20_000)]  # over ten minutes at 30 frames/s
    for header in (fps, Fraction(25), Fraction(480)):
        times = frame_times(seconds, header)
        assert (times.fps, times.constant) == (fps, True)
        assert times.duration_s == pytest.approx(20_000 / float(fps), abs=1e-9)


def test_a_pause_is_kept_and_the_rate_is_that_without_it() -> None:
    seconds = [0.0, 0.04, 0.08, 1.0, 1.04]
    times = frame_times(seconds, Fraction(5, 1))
    assert (times.fps, times.constant) == (Fraction(25), False)
    np.testing.assert_allclose(times.seconds, seconds)
    assert times.duration_s == pytest.approx(1.08)


def test_times_that_stand_still_run_back_or_jump_for_hours_go_on_after_one_frame() -> None:
    times = frame_times([5.0, 5.1, 5.1, 0.0, 0.1, 9e4, float("nan")], Fraction(10))
    np.testing.assert_allclose(times.seconds, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


def test_one_frame_has_the_headers_rate() -> None:
    times = frame_times([3.0], Fraction(25))
    assert (times.seconds.tolist(), times.fps, times.constant, times.duration_s) == ([0.0], Fraction(25), True, 0.04)


def test_kept_times_show_every_frame_once() -> None:
    times = FrameTimes(np.array([0.0, 0.1, 0.7]), Fraction(10), constant=False)
    schedule = Schedule.of(times, None)
    assert [schedule.times_shown(i) for i in range(3)] == [[0.0], [0.1], [0.7]]
    constant = Schedule.of(FrameTimes(np.arange(3) / 10, Fraction(10), constant=True), None)
    assert not constant.variable
    assert [constant.times_shown(i) for i in range(3)] == [[None]] * 3


@pytest.mark.parametrize(
    ("seconds", "fps", "expected"),
    [
        # Shown at 0, .1, ... .7: the second frame until the third begins at .7.
        ([0.0, 0.1, 0.7], 10, [0, 1, 1, 1, 1, 1, 1, 2]),
        # Half the rate: every other frame.
        ([0.0, 0.1, 0.2, 0.3], 5, [0, 2]),
        # The first frame is not passed over for one that follows within half of a new frame.
        ([0.0, 0.04, 0.5], 10, [0, 1, 1, 1, 1, 2]),
        # Three halves of it: no frame is off by more than a thirtieth of a second.
        ([0.0, 0.1, 0.2, 0.3], 15, [0, 1, 1, 2, 3, 3]),
    ],
)
def test_at_a_constant_rate_frames_are_repeated_or_left_out(seconds: Any, fps: int, expected: list[int]) -> None:
    times = FrameTimes(np.array(seconds), Fraction(10), constant=False)
    assert times.shown_at(Fraction(fps)).tolist() == expected
    schedule = Schedule.of(times, Fraction(fps))
    assert np.repeat(schedule.drawn, schedule.repeats).tolist() == expected
    assert (schedule.fps, schedule.variable) == (Fraction(fps), False)


def test_rates_are_written_as_people_write_them() -> None:
    assert parse_rate("keep") is None
    assert parse_rate("25") == 25
    assert parse_rate("12.5") == Fraction(25, 2)
    assert parse_rate("29.97") == parse_rate("30000/1001") == NTSC
    assert parse_rate("23.976") == parse_rate("23.98") == Fraction(24000, 1001)
    assert parse_rate("59.94") == Fraction(60000, 1001)
    for wrong, reason in (("fast", "got 'fast'"), ("0", "1, 240"), ("1000", "1, 240"), ("1/0", "1/0"), ("nan", "nan")):
        with pytest.raises(ValueError, match=reason):
            parse_rate(wrong)
