"""Motion files, ARKit recordings and key frames as drivers of `sfumato animate`, through the real commands."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipelines import assets
from pipelines.media.video import VideoWriter, decode, probe

Run = Callable[..., subprocess.CompletedProcess[str]]


def cut(clip: Path, out: Path, frames: int = 5) -> Path:
    """The first frames of a clip, without its sound."""
    info = probe(clip)
    width, height = info.width // 2 * 2, info.height // 2 * 2
    with VideoWriter(out, width=width, height=height, fps=info.fps, crf=1) as writer:
        for frame, _ in zip(decode(clip), range(frames), strict=False):
            writer.write(np.ascontiguousarray(frame.image[:height, :width]))
    return out


@pytest.fixture(scope="module")
def drivers(tmp_path_factory: pytest.TempPathFactory, run_sfumato: Run) -> Path:
    """A folder with film.mp4, its motion as film.motion.parquet and take.csv, and key frames."""
    folder = tmp_path_factory.mktemp("drivers")
    film = cut(assets.fetch("clip_carphone"), folder / "film.mp4")
    for name in ("film.motion.parquet", "take.csv"):
        done = run_sfumato("motion", str(film), "-o", str(folder / name), "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["counts"] == {"frames": 5}
    (folder / "keys.csv").write_text("time,smile,yaw\n0,0,0\n0.2,1,10\n")
    return folder


@pytest.mark.slow
def test_a_motion_file_drives_byte_for_byte_like_its_film(drivers: Path, run_sfumato: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = ("film.mp4", "film.motion.parquet", "take.csv", "keys.csv")
    done = run_sfumato(
        *("animate", "-s", str(assets.fetch("mona_lisa")), "-o", str(out), "--max-size", "96", "--no-mosaic"),
        *(flag for name in names for flag in ("-d", str(drivers / name))),
        *("--device", "cpu", "--json"),
    )
    assert done.returncode == 0, done.stderr
    source = assets.fetch("mona_lisa").stem
    films = {name: out / f"{source}--{Path(name).stem}.mp4" for name in names}
    assert films["film.mp4"].read_bytes() == films["film.motion.parquet"].read_bytes()
    assert probe(films["take.csv"]).num_frames == 5
    assert probe(films["keys.csv"]).num_frames == 6  # 0.2 s at 25 frames a second, both ends included
    assert [path.name for path in out.glob("*.side-by-side.mp4")] == [f"{source}--film.side-by-side.mp4"]
    note = "the driver is motion without a film: no sound and no side-by-side video"
    notes = json.loads(done.stdout.splitlines()[-1])["notes"]
    assert [line for line in notes if note in line] == [
        f"{source}--film.motion: {note}",
        f"{source}--take: {note}",
        f"{source}--keys: {note}",
    ]


@pytest.mark.slow
def test_mistakes_in_files_of_motion_are_one_line_with_its_number(run_sfumato: Run, tmp_path: Path) -> None:
    wrong, out = tmp_path / "keys.csv", tmp_path / "out"
    wrong.write_text("time,smile\n0,0\n1,5\n")
    (tmp_path / "no.parquet").write_bytes(b"PAR1")
    done = run_sfumato(
        *("animate", "-s", str(assets.fetch("mona_lisa")), "-d", str(wrong), "-d", str(tmp_path / "no.parquet")),
        *("-o", str(out), "--max-size", "64", "--device", "cpu"),
    )
    assert done.returncode == 1
    assert f"{wrong} line 3: smile must be a number in [-1, 1], got '5'" in done.stdout
    assert f"{tmp_path}/no.parquet is no motion file: no Parquet file that can be read" in done.stdout


@pytest.mark.slow
def test_mistakes_of_motion_are_one_line(run_sfumato: Run, tmp_path: Path, make_video: Callable[..., Path]) -> None:
    empty = make_video("grey.mp4", [10, 20])
    cases = [
        ((str(empty), "-o", "x.npy"), "x.npy: the name of the output ends with .parquet or .csv", 2),
        ((str(tmp_path / "none.mp4"), "-o", "x.csv"), f"{tmp_path}/none.mp4 does not exist", 2),
        ((str(empty), "-o", str(tmp_path / "x.csv")), f"{empty}: no face found in any frame", 1),
    ]
    for arguments, message, code in cases:
        done = run_sfumato("motion", *arguments)
        assert (done.stderr, done.returncode) == (f"sfumato motion: error: {message}\n", code)
    assert not (tmp_path / "x.csv").exists()
