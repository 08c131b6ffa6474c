"""Key frames of the twelve sliders as a driver: a film without anybody who drives it.

CSV: the columns `time` (seconds), any of the sliders, and `easing`. JSON: a list of objects with these keys, or
`{"fps": 25, "keys": [...]}`. A slider that a key leaves out is interpolated between its own keys; before its first one
and after its last one it keeps that value. The easing of a key is the way from it to the slider's next one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from pipelines.media.frame_times import FrameTimes, parse_rate
from pipelines.one_line import one_line
from training.animation.motion.face_motion import FaceMotion
from training.animation.motion.sliders import SLIDER_RANGES, Sliders, to_motion
from training.animation.motion.text_table import TextTable, read_text

EASINGS = ("linear", "smooth", "hold")
"""Between two keys: at a constant speed; starting and ending at rest; keep the first one's value."""
FPS = Fraction(25)
"""Frames a second, unless a JSON file says otherwise."""
MAX_SECONDS = 3600.0


@dataclass(frozen=True)
class Key:
    """The values of some sliders at a time."""

    time: float
    """Seconds."""
    values: Mapping[str, float]
    easing: str = "linear"


def read_key_table(table: TextTable) -> tuple[FaceMotion, FrameTimes]:
    """Return the motion of a CSV's key frames.

    Raises:
        ValueError: a wrong column or value; the message names file, line and reason.
    """
    where = f"{table.name} line {table.header_line}"
    for column in table.columns:
        if column not in ("time", "easing", *SLIDER_RANGES):
            known = ", ".join(("time", "easing", *SLIDER_RANGES))
            raise ValueError(f"{where}: unknown column {one_line(column, 40)!r}; known: {known}")
    keys, before = [], -math.inf
    for row in table.rows:
        if "time" not in row.cells:
            raise ValueError(f"{row.name} line {row.number}: the cell 'time' is empty")
        values = {name: row.value(name, *limits) for name, limits in SLIDER_RANGES.items() if name in row.cells}
        key = Key(row.value("time", 0.0, MAX_SECONDS), values, row.cells.get("easing", "linear"))
        _check(f"{row.name} line {row.number}", key, before)
        keys.append(key)
        before = key.time
    return _motion(table.name, keys, FPS)


def read_key_json(path: Path) -> tuple[FaceMotion, FrameTimes]:
    """Return the motion of a JSON file's key frames.

    Raises:
        ValueError: no JSON, or a wrong key or value; the message names file, key and reason.
    """
    try:
        content = json.loads(read_text(path))
    except RecursionError:
        raise ValueError(f"{path}: no JSON of key frames: nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} line {error.lineno}: no JSON: {error.msg}") from None
    fps: Fraction | None = FPS
    if isinstance(content, dict):
        if unknown := sorted(set(content) - {"fps", "keys"}):
            raise ValueError(f"{path}: unknown entry {one_line(unknown[0], 40)!r}; known: fps, keys")
        try:
            fps = parse_rate(str(content.get("fps", FPS)))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        content = content.get("keys")
    if not isinstance(content, list) or fps is None:
        raise ValueError(f"{path}: key frames are a list of objects, or an object with fps, a number, and keys, a list")
    return _motion(str(path), list(_json_keys(path, content)), fps)


def _json_keys(path: Path, rows: Sequence[Any]) -> Iterator[Key]:
    before = -math.inf
    for number, row in enumerate(rows, 1):
        where = f"{path} key {number}"
        if not isinstance(row, dict):
            raise ValueError(f"{where}: no object")
        values: dict[str, float] = {}
        for name, value in row.items():
            if name == "easing":
                continue
            if name != "time" and name not in SLIDER_RANGES:
                known = ", ".join(("time", "easing", *SLIDER_RANGES))
                raise ValueError(f"{where}: unknown entry {one_line(name, 40)!r}; known: {known}")
            lowest, highest = (0.0, MAX_SECONDS) if name == "time" else SLIDER_RANGES[name]
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not lowest <= value <= highest:
                said = one_line(json.dumps(value), 40)
                raise ValueError(f"{where}: {name} must be a number in [{lowest:g}, {highest:g}], got {said}")
            values[name] = float(value)
        if "time" not in values:
            raise ValueError(f"{where}: no time")
        key = Key(values.pop("time"), values, str(row.get("easing", "linear")))
        _check(where, key, before)
        before = key.time
        yield key


def _check(where: str, key: Key, before: float) -> None:
    if key.easing not in EASINGS:
        raise ValueError(f"{where}: easing must be one of {', '.join(EASINGS)}, got {one_line(key.easing, 40)!r}")
    if key.time <= before:
        raise ValueError(f"{where}: time {key.time:g} is not after the key before it, {before:g}")


def _motion(name: str, keys: Sequence[Key], fps: Fraction) -> tuple[FaceMotion, FrameTimes]:
    if not keys:
        raise ValueError(f"{name} holds no key frame")
    count = math.floor(keys[-1].time * fps + 1e-6) + 1
    seconds = np.arange(count) / float(fps)
    curves = {slider: interpolate(keys, slider, seconds) for slider in SLIDER_RANGES}
    frames = [Sliders(**{slider: float(curve[at]) for slider, curve in curves.items()}) for at in range(count)]
    return to_motion(frames), FrameTimes(seconds, fps, constant=True)


def interpolate(
    keys: Sequence[Key], slider: str, seconds: Float64[np.ndarray, " frames"]
) -> Float64[np.ndarray, " frames"]:
    """Return a slider's value at these times; 0 if no key sets it."""
    own = [key for key in keys if slider in key.values]
    if not own:
        return np.zeros(len(seconds))
    starts, values = np.array([key.time for key in own]), np.array([key.values[slider] for key in own])
    after = np.searchsorted(starts, seconds + 1e-9, side="right")
    first, last = np.maximum(after - 1, 0), np.minimum(after, len(own) - 1)
    length = np.maximum(starts[last] - starts[first], 1e-9)
    share = np.clip((seconds - starts[first]) / length, 0, 1)
    easing = np.array([EASINGS.index(key.easing) for key in own])[first]
    share = np.choose(easing, [share, share * share * (3 - 2 * share), np.zeros_like(share)])
    # Rounding must not leave the slider's range.
    low, high = SLIDER_RANGES[slider]
    return np.asarray(np.clip(values[first] + share * (values[last] - values[first]), low, high))
