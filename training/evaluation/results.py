"""Results of an evaluation: values per video, their means in tables, and (de)serialisation."""

import io
import json
import math
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluation.metrics.frame_metrics import MetricValues

SCHEMA_VERSION = 1

# Student's t at 97.5 % for 1, 2, ... degrees of freedom; beyond, Cornish and Fisher's expansion holds to three digits.
_T = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
)  # fmt: skip
_NORMAL = 1.959964


@dataclass(frozen=True)
class Row:
    """Metrics of one method on one video, given T shots."""

    num_shots: int
    method: str
    values: MetricValues
    features: np.ndarray
    """(frames, features) for the Fréchet distance; empty without a truth."""
    pictures: tuple[bytes, ...]
    """A few of its frames as WebP, the same frames in every row."""


@dataclass(frozen=True)
class VideoResult:
    """Results of one video, or of one portrait and its driver."""

    name: str
    driver: str
    """The driver's video; empty if a video is reconstructed."""
    num_frames: int
    shots: tuple[bytes, ...]
    """The first of the shots as WebP."""
    targets: tuple[bytes, ...]
    """The true or the driver's frames that correspond to the rows' pictures."""
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Figure:
    """A mean over videos, and half the width of its 95 % interval if there are two or more."""

    mean: float
    half_width: float | None
    num: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Figure | None":
        """Return the mean of the finite values, or None if there are none."""
        finite = [value for value in values if math.isfinite(value)]
        if not finite:
            return None
        num = len(finite)
        error = float(np.std(finite, ddof=1)) / math.sqrt(num) if num > 1 else None
        return cls(float(np.mean(finite)), None if error is None else student_t(num - 1) * error, num)


def student_t(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's t: half of a 95 % interval, in standard errors."""
    if degrees <= len(_T):
        return _T[degrees - 1]
    z = _NORMAL
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / degrees + second / degrees**2


@dataclass(frozen=True)
class TableRow:
    """One method in a table."""

    method: str
    figures: Mapping[str, Figure | None]
    frechet: float | None = None
    num_frames: int = 0
    """Frames behind the Fréchet distance."""


@dataclass(frozen=True)
class Table:
    """All methods given T shots, on the same frames of the same videos."""

    num_shots: int
    num_videos: int
    num_frames: int
    rows: tuple[TableRow, ...]


def make_tables(
    results: Sequence[VideoResult],
    keys: Sequence[str],
    truth: str | None = None,
    distance: Callable[[np.ndarray, np.ndarray], float] | None = None,
) -> tuple[Table, ...]:
    """Return one table per T.

    Args:
        keys: metrics of the table's columns.
        truth: the row whose features are the reference of the Fréchet distance.
        distance: the Fréchet distance.
    """
    tables = []
    for num_shots in sorted({row.num_shots for result in results for row in result.rows}):
        selected = [result for result in results if any(row.num_shots == num_shots for row in result.rows)]
        by_method: dict[str, list[Row]] = {}
        for result in selected:
            for row in result.rows:
                if row.num_shots == num_shots:
                    by_method.setdefault(row.method, []).append(row)
        true = np.concatenate([row.features for row in by_method[truth]]) if truth else np.zeros((0, 0))
        rows = []
        for method, members in by_method.items():
            features = np.concatenate([row.features for row in members])
            compared = distance is not None and min(len(features), len(true)) > 1
            rows.append(
                TableRow(
                    method,
                    {key: Figure.of(row.values[key] for row in members if key in row.values) for key in keys},
                    distance(features, true) if compared and distance is not None else None,
                    len(features),
                )
            )
        tables.append(Table(num_shots, len(selected), sum(result.num_frames for result in selected), tuple(rows)))
    return tuple(tables)


def pack(result: VideoResult) -> bytes:
    """Serialise a result as an .npz of numbers and encoded pictures, without pickles."""
    facts = {
        "schema_version": SCHEMA_VERSION,
        "name": result.name,
        "driver": result.driver,
        "num_frames": result.num_frames,
        "rows": [{"num_shots": row.num_shots, "method": row.method, "values": row.values} for row in result.rows],
    }
    arrays = {"facts": _bytes(json.dumps(facts).encode())}
    pictures = {"shots": result.shots, "targets": result.targets}
    for number, row in enumerate(result.rows):
        arrays[f"features-{number}"] = row.features
        pictures[f"row-{number}"] = row.pictures
    for name, group in pictures.items():
        arrays |= {f"{name}-{place}": _bytes(picture) for place, picture in enumerate(group)}
    sink = io.BytesIO()
    np.savez(sink, allow_pickle=False, **arrays)
    return sink.getvalue()


def unpack(data: bytes) -> VideoResult:
    """Deserialise the output of `pack`.

    Raises:
        ValueError: `data` is no result, or of another schema version.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts = json.loads(arrays["facts"].tobytes())
        if facts["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {facts['schema_version']}, this version reads {SCHEMA_VERSION}")
        rows = tuple(
            Row(row["num_shots"], row["method"], row["values"], arrays[f"features-{i}"], _group(arrays, f"row-{i}"))
            for i, row in enumerate(facts["rows"])
        )
    except (OSError, KeyError, TypeError, EOFError, AttributeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"no result of an evaluation: {error}") from error
    shots, targets = _group(arrays, "shots"), _group(arrays, "targets")
    return VideoResult(facts["name"], facts["driver"], facts["num_frames"], shots, targets, rows)


def _bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


def _group(arrays: Mapping[str, np.ndarray], name: str) -> tuple[bytes, ...]:
    count = sum(key.rpartition("-")[0] == name for key in arrays)
    return tuple(arrays[f"{name}-{place}"].tobytes() for place in range(count))
