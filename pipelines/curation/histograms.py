"""Statistics for the preview page: histograms, pose coverage, and the effect of lower quality thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from pipelines.preprocess.quality import QualityRule

_NUM_BINS = 30
_MIN_BINS = 9
_TAIL_SHARE = 0.002  # share of the values at either end that is left out of a histogram's range
POSE_STEP = 5
_YAW_REACH, _PITCH_REACH = 60, 40
_BY_THRESHOLD = {"min_frames": "too_few_frames", "min_face": "too_small", "min_sharpness": "blurred"}
_EASINGS = (0.9, 0.75, 0.5, 0.25, 0.0)


@dataclass(frozen=True)
class Histogram:
    """Counts of values between edges; values outside are counted in the first or last bin."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    median: float
    low: float
    """Smallest value; `high` is the largest."""
    high: float
    whole: bool = False
    """Whether the values are integers, at the centres of the bins."""

    @property
    def ticks(self) -> tuple[float, float, float]:
        """Labels below the first, the middle and the last bin."""
        half = 0.5 if self.whole else 0.0
        return self.edges[0] + half, self.edges[len(self.counts) // 2] + half, self.edges[-1] - half

    @property
    def median_at(self) -> float:
        """Position of the median between the first edge (0) and the last (1), with all bins drawn equally wide."""
        return float(np.interp(self.median, self.edges, np.linspace(0, 1, len(self.edges))))

    @property
    def total(self) -> int:
        """Number of values."""
        return sum(self.counts)


def histogram(
    values: Float[np.ndarray, " values"], *, whole: bool = False, logarithmic: bool = False
) -> Histogram | None:
    """Count values in about thirty bins; None if no value is finite.

    Args:
        whole: the values are integers; each gets its own bin if there are few.
        logarithmic: bins grow geometrically, for positive values with a long tail.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        return None
    low, high = (float(value) for value in np.quantile(finite, [_TAIL_SHARE, 1 - _TAIL_SHARE]))
    edges = _whole_edges(low, high) if whole else _edges(low, high, logarithmic)
    counts, _ = np.histogram(np.clip(finite, edges[0], edges[-1]), edges)
    ends = float(finite.min()), float(finite.max())
    return Histogram(tuple(edges.tolist()), tuple(counts.tolist()), float(np.median(finite)), *ends, whole)


def _whole_edges(low: float, high: float) -> Float[np.ndarray, " edges"]:
    low, high = np.floor(low), np.ceil(high)
    step = max(1, int(np.ceil((high - low + 1) / _NUM_BINS)))
    missing = max(0, _MIN_BINS - int(high - low + 1))  # a single bar as wide as the chart is not readable
    return np.arange(low - missing // 2 - 0.5, high + missing - missing // 2 + 0.5 + step, step)


def _edges(low: float, high: float, logarithmic: bool) -> Float[np.ndarray, " edges"]:
    if logarithmic and low > 0 and high > low:
        return np.geomspace(low, high, _NUM_BINS + 1)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, _NUM_BINS + 1)


@dataclass(frozen=True, eq=False)
class PoseCoverage:
    """Number of frames by head pose: rows from looking up to looking down, columns from the image's left to its right.

    Cells are POSE_STEP degrees wide; `yaw` and `pitch` are their edges. Frames beyond them count in the last cells.
    """

    counts: Int64[np.ndarray, "pitches yaws"]
    yaw: tuple[int, ...]
    pitch: tuple[int, ...]
    frontal_share: float
    """Share of frames within 15 degrees of frontal in both angles, 0-1."""
    cells_filled: float
    """Share of cells with at least one frame, 0-1."""


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
    """A lower threshold, and the number of rejected clips that would pass it.

    `num_unknown` of these were rejected before everything was measured, so that a later check may still reject them.
    """

    value: float
    num_through: int
    num_unknown: int


@dataclass(frozen=True)
class Threshold:
    """One threshold of the data set, the number of clips it rejected, and the effect of lower values."""

    name: str
    value: float
    num_refused: int
    easings: tuple[Easing, ...]


def near_misses(rule: QualityRule, rejects: Sequence[Mapping[str, Any]]) -> tuple[Threshold, ...]:
    """Evaluate rejected clips again by their stored measures, with one threshold lowered at a time.

    Args:
        rejects: rows of the rejects (REJECT_SCHEMA); clips rejected for other reasons than a threshold are ignored.
    """
    considered = [row for row in rejects if row["code"] in _BY_THRESHOLD.values()]
    thresholds: list[Threshold] = []
    for name, code in _BY_THRESHOLD.items():
        now = float(getattr(rule, name))
        easings: list[Easing] = []
        for value in _lower(name, now):
            eased = {**vars(rule), name: value}
            passed = [_passes(row, eased) for row in considered]
            easings.append(Easing(value, sum(p is not False for p in passed), sum(p is None for p in passed)))
        thresholds.append(Threshold(name, now, sum(row["code"] == code for row in considered), tuple(easings)))
    return tuple(thresholds)


def _lower(name: str, now: float) -> list[float]:
    if name == "min_frames":
        return [float(value) for value in sorted({max(1, int(now * share)) for share in _EASINGS}, reverse=True)]
    return [round(now * share, 2) for share in _EASINGS]


def _passes(row: Mapping[str, Any], rule: Mapping[str, Any]) -> bool | None:
    """Whether a clip would pass `rule`; None if all stored measures pass but some are missing."""
    checks = (("frames_with_face", "min_frames"), ("face_size", "min_face"), ("sharpness", "min_sharpness"))
    if any(row[measure] is not None and row[measure] < rule[threshold] for measure, threshold in checks):
        return False
    if row[dict(zip(_BY_THRESHOLD.values(), (m for m, _ in checks), strict=True))[row["code"]]] is None:
        return False  # the measure it was rejected for was not recorded
    return True if all(row[measure] is not None for measure, _ in checks) else None
