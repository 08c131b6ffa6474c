"""Videos that go wrong, through the real command, by their numbers in the list of bad inputs.

All of them lie in one folder beside a good one and go through one run: each must end in its own way and harm no other.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from bad_videos import (
    ODD_NAMES,
    broken,
    faces,
    ffmpeg,
    frame_rates,
    lying_headers,
    not_files,
    odd_names,
    picture_formats,
    playlists,
    sounds,
)

from pipelines import assets

pytestmark = pytest.mark.slow

_FLAGS = ("--layout=flat", "--size=64", "--frames-per-clip=9", "--max-sample-fps=4", "--trial-clips=0")
_NO_ONE_HELD_OUT = ("--val-fraction=0", "--test-fraction=0")


def sfumato(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sfumato", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=400)


@dataclass(frozen=True)
class Result:
    """What one run made of a folder: rows and rejects by source."""

    rows: dict[str, dict[str, Any]]
    rejects: dict[str, dict[str, Any]]
    said: dict[str, Any]


def run(folder: Path, out: Path) -> Result:
    done = sfumato("preprocess", str(folder), str(out), *_FLAGS, *_NO_ONE_HELD_OUT, "--json")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    tables = [[row for path in out.glob(glob) for row in pq.read_table(path).to_pylist()] for glob in _TABLES]
    rows, rejects = ({row["source"]: row for row in table} for table in tables)
    return Result(rows, rejects, json.loads(done.stdout.splitlines()[-1]))


_TABLES = ("clips/split=train/part-?????.parquet", "rejects/part-?????.parquet")


@pytest.fixture(scope="module")
def video_path() -> Path:
    """A man in a car, 176 x 144, 120 frames at 29.97 a second, no sound."""
    return assets.fetch("clip_carphone")


@pytest.fixture(scope="module")
def folder(video_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every video of the list, and `good.mp4`."""
    folder = tmp_path_factory.mktemp("films") / "in"
    folder.mkdir()
    shutil.copy(video_path, folder / "good.mp4")
    for make in (broken, lying_headers, frame_rates, picture_formats, sounds, faces, playlists, odd_names, not_files):
        make(video_path, folder)
    return folder


@pytest.fixture(scope="module")
def result(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(folder, tmp_path_factory.mktemp("out") / "set")


def test_every_video_ends_in_exactly_one_way_and_says_why_without_a_path(folder: Path, result: Result) -> None:
    names = {path.name for path in folder.iterdir() if path.name != "48 folder.mp4"}
    assert set(result.rows) | set(result.rejects) == names
    assert not set(result.rows) & set(result.rejects)
    counts = result.said["counts"]
    assert counts["done"] + counts["rejected"] + counts["failed"] == counts["inputs"] == len(names)
    for row in result.rejects.values():
        assert row["message"]
        assert str(folder.parent) not in row["message"]
        assert "\n" not in row["message"]


def test_the_good_video_gives_the_row_that_it_gives_alone(video_path: Path, result: Result, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(video_path, tmp_path / "in" / "good.mp4")
    alone = run(tmp_path / "in", tmp_path / "out").rows["good.mp4"]
    assert alone["frame_jpeg"] == result.rows["good.mp4"]["frame_jpeg"]
    assert alone["landmarks"] == result.rows["good.mp4"]["landmarks"]


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("27.mp4", "unreadable", "no frame|no video"),
        ("28.mp4", "too_few_frames", "the face is in 1 frames"),
        ("29.mp4", "unreadable", "29.mp4 holds no video stream"),
        ("30.mp4", "unreadable", "30.mp4 is not a readable video"),
        ("44 two people.mp4", "several_faces", "two faces"),
        *((f"46 {name}.mp4", "unreadable", "is not a readable video") for name in ("hls", "concat", "sdp", "dash")),
        ("broken\n  name.mp4", "unreadable", "broken name.mp4 is not a readable video"),
        ("48 nothing.mp4", "storage", "it is not there any more"),
        ("48 pipe.mp4", "unreadable", "48 pipe.mp4 is not a regular file"),
    ],
)
def test_what_gives_no_row_says_why(name: str, code: str, words: str, result: Result) -> None:
    row = result.rejects[name]
    assert row["code"] == code
    assert re.search(words, row["message"])


_ACCEPTED = [
    *("31.mkv", "32.mkv", "33 fps 0.avi", "33 fps 1000.avi", "33 fps nan.avi", "33 frame count.avi", "34.mp4"),
    *("35 23.976.mp4", "35 29.97.mp4", "35 59.94.mp4", "35 ten minutes.mp4", "36.mp4", "37.mp4", "38.mpg", "39.mp4"),
    *("40.mp4", "41.ts", "42 longer.mp4", "42 shorter.mp4", "42 surround.mp4", "42 opus.mkv", "44 start.mp4"),
    *("44 middle.mp4", "44 end.mp4", "44 cut to another.mp4", "45.mp4", *ODD_NAMES.values(), "48 link.mp4"),
]


@pytest.mark.parametrize("name", _ACCEPTED)
def test_decodable_videos_give_upright_faces_in_order(name: str, result: Result) -> None:
    row = result.rows[name]
    points = np.array(row["landmarks"]).reshape(-1, 68, 2)
    assert len(points) == len(row["frame_jpeg"]) == 9
    assert np.all(points[:, 36:48, 1].mean(axis=1) < points[:, 48:60, 1].mean(axis=1))
    assert points.min() > 0
    assert points.max() < 63
    assert np.all(np.diff(row["frame_index"]) > 0)
    assert np.all(np.diff(row["frame_pts_us"]) > 0)
    assert 0 < Fraction(row["fps_numerator"], row["fps_denominator"]) <= 480


@pytest.mark.parametrize(
    ("name", "size"), [("36.mp4", (176, 144)), ("37.mp4", (176, 144)), ("40.mp4", (175, 143)), ("41.ts", (176, 144))]
)
def test_36_37_40_41_sizes_are_those_one_sees(name: str, size: tuple[int, int], result: Result) -> None:
    assert (result.rows[name]["width"], result.rows[name]["height"]) == size


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("35 23.976.mp4", Fraction(24000, 1001)),
        ("35 29.97.mp4", Fraction(30000, 1001)),
        ("35 59.94.mp4", Fraction(60000, 1001)),
        ("35 ten minutes.mp4", Fraction(30000, 1001)),
    ],
)
def test_35_times_do_not_drift_from_the_rate(name: str, rate: Fraction, result: Result) -> None:
    row = result.rows[name]
    drift = [abs(pts / 1e6 - index / rate) for index, pts in zip(row["frame_index"], row["frame_pts_us"], strict=True)]
    assert max(drift) < 1 / rate
    if name == "35 ten minutes.mp4":
        assert row["frame_pts_us"][-1] > 500e6  # the frames are spread over all of it


def test_32_frames_after_the_damage_keep_their_numbers(result: Result) -> None:
    row = result.rows["32.mkv"]
    times = [round(pts / 1e6 * 30000 / 1001) for pts in row["frame_pts_us"]]
    assert times == row["frame_index"]


def test_42_sound_is_kept_as_it_is(result: Result) -> None:
    kept = {name: result.rows[name]["audio_format"] for name in result.rows if name.startswith("42")}
    assert kept == {"42 longer.mp4": "m4a", "42 shorter.mp4": "m4a", "42 surround.mp4": "m4a", "42 opus.mkv": "mka"}
    assert result.rows["good.mp4"]["audio"] is None


def test_44_frames_without_the_face_and_beyond_a_cut_are_left_out(result: Result) -> None:
    assert min(result.rows["44 start.mp4"]["frame_index"]) >= 59
    assert all(index < 61 or index >= 89 for index in result.rows["44 middle.mp4"]["frame_index"])
    assert max(result.rows["44 end.mp4"]["frame_index"]) < 121
    assert min(result.rows["44 cut to another.mp4"]["frame_index"]) >= 45


def test_47_no_name_is_a_command(folder: Path) -> None:
    assert not (folder / "pwned").exists()
    assert not Path("pwned").exists()


@pytest.mark.parametrize("suffix", [".mp4", ".jsonl", ".tar"])
def test_48_a_pipe_as_source_is_refused_at_once(suffix: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"pipe{suffix}")
    done = sfumato("preprocess", str(tmp_path / f"pipe{suffix}"), str(tmp_path / "out"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "is not a regular file" in line or "is neither a folder nor a regular file" in line


def peak_kb(process: subprocess.Popen[bytes]) -> int:
    """The most that the process and each of its children held, in sum; looked at ten times a second."""
    peaks: dict[str, int] = {}
    while process.poll() is None:
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if os.getpgid(int(path.name)) == process.pid:
                    status = (path / "status").read_text()
                    peaks[path.name] = int(next(line.split()[1] for line in status.splitlines() if "VmHWM" in line))
            except (OSError, StopIteration):
                continue
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    return sum(peaks.values())


@pytest.mark.long
def test_43_memory_does_not_grow_with_the_length_of_a_video(video_path: Path, tmp_path: Path) -> None:
    peaks = {}
    for name, minutes in (("minute", 1), ("three hours", 180)):
        (tmp_path / name).mkdir()
        ffmpeg("-stream_loop", 15 * minutes - 1, "-i", video_path, "-c", "copy", tmp_path / name / "film.mp4")
        command = [sys.executable, "-m", "sfumato", "preprocess", str(tmp_path / name), str(tmp_path / f"{name} out")]
        process = subprocess.Popen(
            [*command, *_FLAGS, "--workers=1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        peaks[name] = peak_kb(process)
        assert process.returncode == 0
        (part,) = (tmp_path / f"{name} out").glob("clips/*/part-00000.parquet")
        (row,) = pq.read_table(part).to_pylist()
        assert row["end_us"] == pytest.approx(minutes * 60e6, rel=0.01)
    assert peaks["three hours"] - peaks["minute"] < 80_000
