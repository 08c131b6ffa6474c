"""What a video shows while the driver's face is missing."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from pipelines.media.frame_times import FrameTimes, Schedule
from training.animation.driver_track import DriverTrack

OnMissing = Literal["fill", "hold", "rest", "cut", "fail"]
"""fill: interpolated motion; hold: the last motion; rest: the portrait's own pose; cut: no frames; fail: no video."""

_EASE_S = 0.3  # from motion to rest and back, and from held motion back to the driver's
_MOST_SPANS = 5  # that a note names
_DONE = {
    "fill": "the motion there is filled in",
    "hold": "the last motion is held there",
    "rest": "the portrait is at rest there",
    "cut": "they are cut, with their sound",
    "fail": "--on-missing fail allows none",
}
Points = Float[np.ndarray, "frames points 2"]


def missing_spans(found: Bool[np.ndarray, "frames"], times: FrameTimes) -> tuple[tuple[float, float], ...]:
    """Return begin and end, in seconds, of each run of frames without the face."""
    return _spans(~found, times)


def missing_note(track: DriverTrack, on_missing: OnMissing) -> str | None:
    """Return a line that says how many frames lack the face, which, and what is shown there; None if none do."""
    spans = missing_spans(track.found, track.times)
    if not spans:
        return None
    named = ", ".join(f"{begin:.2f}-{end:.2f} s" for begin, end in spans[:_MOST_SPANS])
    more = f" and {len(spans) - _MOST_SPANS} more" if len(spans) > _MOST_SPANS else ""
    number = int((~track.found).sum())
    return f"no face in {number} of {len(track)} driver frames ({named}{more}): {_DONE[on_missing]}"


def bridged(track: DriverTrack, on_missing: OnMissing) -> DriverTrack:
    """Return the track whose motion is followed: with `hold` and `rest`, missing frames have the last face's motion.

    Raises:
        ValueError: with `fail`, frames lack the face; the message names their times.
    """
    if on_missing == "fail" and (note := missing_note(track, on_missing)) is not None:
        raise ValueError(note)
    if track.found.all() or on_missing not in ("hold", "rest"):
        return track
    last = _last_found(track.found)
    landmarks, gaze = track.landmarks[last], track.gaze[last]
    if on_missing == "hold":
        shares = motion_shares(track, instantly=True)[:, None, None]
        held = np.maximum.accumulate(np.where(track.found, -1, last))  # the motion that was held before this frame
        held = np.where(held < 0, last, held)
        landmarks = _mixed(track.landmarks[held], landmarks, shares)
        gaze = _mixed(track.gaze[held], gaze, shares)
    return replace(track, landmarks=landmarks, gaze=gaze)


def towards_rest(points: Points, rest: Float[np.ndarray, "points 2"], track: DriverTrack) -> Points:
    """Ease points to those at rest in frames without the face, and back to the driver's motion after them."""
    if track.found.all():
        return points
    return _mixed(np.broadcast_to(rest, points.shape), points, motion_shares(track, instantly=False)[:, None, None])


def shown_frames(track: DriverTrack, fps: Fraction | None, on_missing: OnMissing) -> Schedule:
    """Return which of the driver's frames the video shows and when; with `cut`, none without the face.

    Args:
        fps: a rate as `frame_times.parse_rate` returns it.
    """
    if on_missing != "cut" or track.found.all():
        return Schedule.of(track.times, fps)
    kept = Schedule.of(track.times.only(track.found), fps)
    return replace(kept, drawn=np.flatnonzero(track.found)[kept.drawn])


def kept_spans(track: DriverTrack, on_missing: OnMissing) -> tuple[tuple[float, float], ...] | None:
    """Return the parts of the driver's time that the video shows, in seconds; None for all of it."""
    return None if on_missing != "cut" or track.found.all() else _spans(track.found, track.times)


def _spans(wanted: Bool[np.ndarray, "frames"], times: FrameTimes) -> tuple[tuple[float, float], ...]:
    edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False))
    limits = [*times.seconds.tolist(), times.duration_s]
    return tuple((limits[begin], limits[end]) for begin, end in edges.reshape(-1, 2))


def _last_found(found: Bool[np.ndarray, "frames"]) -> Int[np.ndarray, "frames"]:
    """Return for each frame the last one up to it that has the face; before the first, that one."""
    last = np.maximum.accumulate(np.where(found, np.arange(len(found)), -1))
    return np.where(last < 0, int(found.argmax()), last)


def motion_shares(track: DriverTrack, *, instantly: bool) -> Float[np.ndarray, "frames"]:
    """Return the share of the driver's motion in each frame: it falls in frames without the face and rises after them.

    Args:
        instantly: it falls at once.
    """
    share, shares = float(track.found[0]), []
    gaps: Sequence[float] = np.diff(track.times.seconds, prepend=track.times.seconds[0]).tolist()
    for found, gap in zip(track.found.tolist(), gaps, strict=True):
        step = gap / _EASE_S
        share = min(share + step, 1.0) if found else 0.0 if instantly else max(share - step, 0.0)
        shares.append(share)
    linear = np.array(shares)
    return np.asarray(linear * linear * (3 - 2 * linear))


def _mixed(a: Points, b: Points, shares_of_b: Float[np.ndarray, "frames 1 1"]) -> Points:
    # Not a + share * (b - a): gaze is NaN where it is unknown, which must not spread to frames that show b only.
    mixed = np.where(shares_of_b >= 1, b, np.where(shares_of_b <= 0, a, (1 - shares_of_b) * a + shares_of_b * b))
    return np.asarray(mixed, np.float32)
