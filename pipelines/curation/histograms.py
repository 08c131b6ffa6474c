"""Numbers for looking at a data set: histograms, pose coverage, and what another threshold would have let through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from pipelines.preprocess.quality import QualityRule

_NUM_BINS = 30
_FEWEST_BINS = 9
_CUT = 0.002  # share of the values at either end that must not stretch a histogram
POSE_STEP = 5
_YAW_REACH, _PITCH_REACH = 60, 40
_BY_THRESHOLD = {"min_frames": "too_few_frames", "min_face": "too_small", "min_sharpness": "blurred"}
_EASINGS = (0.9, 0.75, 0.5, 0.25, 0.0)


@dataclass(frozen=True)
class Histogram:
    """Counts of values between edges; what lies outside is counted at the ends."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    median: float
    low: float
    """The least of all values; `high`: the most."""
    high: float
    whole: bool = False
    """Whether the values are whole numbers: bins then lie around them."""

    @property
    def ticks(self) -> tuple[float, float, float]:
        """What to write below the first bin, the middle and the last."""
        half = 0.5 if self.whole else 0.0
        return self.edges[0] + half, self.edges[len(self.counts) // 2] + half, self.edges[-1] - half

    @property
    def median_at(self) -> float:
        """Where the median lies between the first edge (0) and the last (1), all bins equally wide."""
        return float(np.interp(self.median, self.edges, np.linspace(0, 1, len(self.edges))))

    @property
    def total(self) -> int:
        """How many values there are."""
        return sum(self.counts)


def histogram(
    values: Float[np.ndarray, " values"], *, whole: bool = False, logarithmic: bool = False
) -> Histogram | None:
    """Spread values over some thirty bins; None without a finite one.

    Args:
        whole: they are whole numbers, each its own bin where there are few.
        logarithmic: bins grow in proportion, for what is never negative and has a long tail.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        return None
    low, high = (float(value) for value in np.quantile(finite, [_CUT, 1 - _CUT]))
    edges = _whole_edges(low, high) if whole else _edges(low, high, logarithmic)
    counts, _ = np.histogram(np.clip(finite, edges[0], edges[-1]), edges)
    ends = float(finite.min()), float(finite.max())
    return Histogram(tuple(edges.tolist()), tuple(counts.tolist()), float(np.median(finite)), *ends, whole)


def _whole_edges(low: float, high: float) -> Float[np.ndarray, " edges"]:
    low, high = np.floor(low), np.ceil(high)
    step = max(1, int(np.ceil((high - low + 1) / _NUM_BINS)))
    missing = max(0, _FEWEST_BINS - int(high - low + 1))  # a single bar as wide as the chart says nothing
    return np.arange(low - missing // 2 - 0.5, high + missing - missing // 2 + 0.5 + step, step)


def _edges(low: float, high: float, logarithmic: bool) -> Float[np.ndarray, " edges"]:
    if logarithmic and low > 0 and high > low:
        return np.geomspace(low, high, _NUM_BINS + 1)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, _NUM_BINS + 1)


@dataclass(frozen=True, eq=False)
class PoseCoverage:
    """How many frames look where: rows from looking up to looking down, columns from the picture's left to its right.

    Cells are POSE_STEP degrees wide, `yaw` and `pitch` their edges; frames beyond the edges count in the last cells.
    """

    counts: Int64[np.ndarray, "pitches yaws"]
    yaw: tuple[int, ...]
    pitch: tuple[int, ...]
    frontal_share: float
    """Frames within 15 degrees of frontal in both, 0-1."""
    cells_filled: float
    """Cells with at least one frame, 0-1."""


def pose_coverage(yaw: Float[np.ndarray, " frames"], pitch: Float[np.ndarray, " frames"]) -> PoseCoverage:
    """Count frames by yaw (up to 60 degrees to either side) and pitch (up to 40)."""
    yaw_edges = np.arange(-_YAW_REACH, _YAW_REACH + 1, POSE_STEP)
    pitch_edges = np.arange(-_PITCH_REACH, _PITCH_REACH + 1, POSE_STEP)
    fine = np.isfinite(yaw) & np.isfinite(pitch)
    x = np.clip(yaw[fine], -_YAW_REACH, _YAW_REACH)
    y = np.clip(pitch[fine], -_PITCH_REACH, _PITCH_REACH)
    counts, _, _ = np.histogram2d(y, x, [pitch_edges, yaw_edges])
    frontal = float(np.mean((np.abs(x) <= 15) & (np.abs(y) <= 15))) if x.size else 0.0
    return PoseCoverage(
        counts[::-1].astype(np.int64),
        tuple(yaw_edges.tolist()),
        tuple(pitch_edges[::-1].tolist()),
        frontal,
        float(np.mean(counts > 0)),
    )


@dataclass(frozen=True)
class Easing:
    """A lower threshold: how many refused clips it would let through.

    Of these, `num_unknown` were refused before everything was measured: a later threshold may refuse them yet.
    """

    value: float
    num_through: int
    num_unknown: int


@dataclass(frozen=True)
class Threshold:
    """One threshold as the data set had it, how many clips it refused, and what lower ones would have done."""

    name: str
    value: float
    num_refused: int
    easings: tuple[Easing, ...]


def near_misses(rule: QualityRule, rejects: Sequence[Mapping[str, Any]]) -> tuple[Threshold, ...]:
    """Judge refused clips again by what was measured of them, with each threshold lowered alone.

    Args:
        rejects: rows of the rejects (REJECT_SCHEMA); those refused for other reasons than a threshold stay refused.
    """
    judged = [row for row in rejects if row["code"] in _BY_THRESHOLD.values()]
    thresholds: list[Threshold] = []
    for name, code in _BY_THRESHOLD.items():
        now = float(getattr(rule, name))
        easings: list[Easing] = []
        for value in _lower(name, now):
            eased = {**vars(rule), name: value}
            verdicts = [_passes(row, eased) for row in judged]
            easings.append(Easing(value, sum(v is not False for v in verdicts), sum(v is None for v in verdicts)))
        thresholds.append(Threshold(name, now, sum(row["code"] == code for row in judged), tuple(easings)))
    return tuple(thresholds)


def _lower(name: str, now: float) -> list[float]:
    if name == "min_frames":
        return [float(value) for value in sorted({max(1, int(now * share)) for share in _EASINGS}, reverse=True)]
    return [round(now * share, 2) for share in _EASINGS]


def _passes(row: Mapping[str, Any], rule: Mapping[str, Any]) -> bool | None:
    """Whether a clip would pass now; None where what was measured lets it pass, but not all was measured."""
    checks = (("frames_with_face", "min_frames"), ("face_size", "min_face"), ("sharpness", "min_sharpness"))
    if any(row[measure] is not None and row[measure] < rule[threshold] for measure, threshold in checks):
        return False
    if row[dict(zip(_BY_THRESHOLD.values(), (m for m, _ in checks), strict=True))[row["code"]]] is None:
        return False  # what it was refused for was not recorded: nothing says that it would pass
    return True if all(row[measure] is not None for measure, _ in checks) else None
