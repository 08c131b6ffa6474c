"""Recordings of the 52 ARKit actions as CSV, with the columns of the iPhone app Live Link Face (Epic Games).

`Timecode` (HH:MM:SS:FF.FFF, in frames of the recording's rate), `BlendShapeCount`, the 52 actions with a capital first
letter, `HeadYaw`, `HeadPitch`, `HeadRoll` and six angles of the eyes, in radians. Here `HeadYaw` above 0 turns to the
picture's right, `HeadPitch` above 0 looks up, and `HeadRoll` above 0 tilts counter-clockwise.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from pipelines import storage
from pipelines.media.frame_times import FrameTimes, frame_times
from pipelines.synthetic.head.arkit_actions import ACTIONS
from training.animation.motion.face_motion import FaceMotion, look_angles
from training.animation.motion.text_table import TextTable

_HEAD = ("HeadYaw", "HeadPitch", "HeadRoll")
_EYES = ("LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll", "RightEyeYaw", "RightEyePitch", "RightEyeRoll")
_SIGNS = np.array([1.0, 1.0, -1.0])  # of yaw, pitch and roll here, against those of `head_pose.Pose`
_COUNT = len(ACTIONS) + len(_HEAD) + len(_EYES)
_RATES = (24, 25, 30, 60)
_TIMECODE_RATE = 60  # of written files
_TIMECODE = re.compile(r"(\d{1,3}):(\d{1,2}):(\d{1,2})[:;](\d{1,3}(?:\.\d+)?)")


def _capital(name: str) -> str:
    return name[0].upper() + name[1:]


# The app's order: eyes, jaw, mouth, brows, cheeks, nose, tongue.
_PARTS = ("eye", "jaw", "mouth", "brow", "cheek", "nose", "tongue")
_COLUMNS = tuple(sorted(ACTIONS, key=lambda name: next(i for i, part in enumerate(_PARTS) if name.startswith(part))))


def is_arkit(columns: Sequence[str]) -> bool:
    """Whether a CSV's columns are those of a recording."""
    return "timecode" in {column.lower() for column in columns}


def read_arkit(table: TextTable) -> tuple[FaceMotion, FrameTimes]:
    """Read a recording. Actions that it lacks are 0; other columns are ignored.

    Raises:
        ValueError: it lacks all actions or holds a wrong value; the message names file, line and reason.
    """
    names = {column.lower(): column for column in table.columns}
    present = [name for name in ACTIONS if name.lower() in names]
    if not present:
        raise ValueError(f"{table.name} line {table.header_line}: no column is one of the 52 ARKit actions")
    actions, angles = np.zeros((len(table.rows), len(ACTIONS))), np.zeros((len(table.rows), 3))
    codes = []
    for position, row in enumerate(table.rows):
        codes.append(_timecode(table.name, row.number, row.cells.get(names["timecode"], "")))
        for name in present:
            actions[position, ACTIONS.index(name)] = row.value(names[name.lower()], -0.5, 3.0)
        for place, name in enumerate(_HEAD):
            if name.lower() in names:
                angles[position, place] = row.value(names[name.lower()], -np.pi, np.pi)
    if not codes:
        raise ValueError(f"{table.name} holds no frame")
    frames = np.array([code[1] for code in codes])
    rate = next((rate for rate in _RATES if frames.max() < rate), frames.max() + 1)
    if codes[-1][0] == codes[0][0]:  # within one second, whose last frame is not known
        rate = max(rate, _TIMECODE_RATE)
    seconds = np.array([code[0] for code in codes]) + frames / rate
    times = frame_times((seconds - seconds[0]).tolist(), Fraction(_TIMECODE_RATE))
    return FaceMotion(actions, np.degrees(angles) * _SIGNS), times


def _timecode(name: str, line: int, text: str) -> tuple[float, float]:
    """Return the seconds and the frame within the second."""
    match = _TIMECODE.fullmatch(text)
    if match is None:
        raise ValueError(f"{name} line {line}: Timecode must be HH:MM:SS:FF.FFF, got {text[:40]!r}")
    hours, minutes, seconds = (int(group) for group in match.groups()[:3])
    return 3600.0 * hours + 60 * minutes + seconds, float(match[4])


def write_arkit(motion: FaceMotion, times: FrameTimes, out: str | Path) -> None:
    """Write a recording to `out` (path or URL). Travel and zoom are not part of the format."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["Timecode", "BlendShapeCount", *map(_capital, _COLUMNS), *_HEAD, *_EYES])
    order = [ACTIONS.index(name) for name in _COLUMNS]
    head = np.radians(np.asarray(motion.angles) * _SIGNS)
    looks = look_angles(np.asarray(motion.actions, np.float64))
    for seconds, actions, angles, (right, left) in zip(times.seconds, motion.actions, head, looks, strict=True):
        eyes = (*left, 0.0, *right, 0.0)
        values = (f"{value:.6f}" for value in (*actions[order], *angles, *eyes))
        writer.writerow([_written_timecode(float(seconds)), _COUNT, *values])
    with storage.atomic_write(str(out)) as sink:
        sink.write(text.getvalue().encode())


def _written_timecode(seconds: float) -> str:
    thousandths = round(seconds * _TIMECODE_RATE * 1000)
    whole, frame = divmod(thousandths, _TIMECODE_RATE * 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}:{frame // 1000:02}.{frame % 1000:03}"
