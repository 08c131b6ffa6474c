"""Films as sources of `sfumato animate`, through the real command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipelines import assets
from pipelines.media.video import VideoWriter, decode, probe
from pipelines.storage.parquet import read_table

Run = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = pytest.mark.slow


def write(out: Path, frames: list[np.ndarray], fps: int) -> Path:
    height, width = frames[0].shape[:2]
    with VideoWriter(out, width=width // 2 * 2, height=height // 2 * 2, fps=Fraction(fps), crf=1) as writer:
        for frame in frames:
            writer.write(np.ascontiguousarray(frame[: height // 2 * 2, : width // 2 * 2]))
    return out


def frames_of(clip: str, *numbers: int) -> list[np.ndarray]:
    return [frame.image for frame in decode(assets.fetch(clip), frame_indices=numbers)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """film.mp4: four frames of a man and one without him, at 10 frames a second; empty.mp4 shows nobody."""
    folder = tmp_path_factory.mktemp("films")
    man = frames_of("clip_carphone", 0, 4, 8, 12)
    blank = np.full_like(man[0], 90)
    write(folder / "film.mp4", [*man, blank], 10)
    write(folder / "empty.mp4", [blank] * 3, 10)
    write(folder / "driver.mp4", frames_of("clip_cap12", 125, 290, 300), 25)
    (folder / "keys.csv").write_text("time,aaa\n0,0\n0.3,1\n1,1\n")
    rows = [
        "source,driver,name,parts,on_missing,sound",
        "film.mp4,driver.mp4,dub,,,",
        "film.mp4,keys.csv,keys,,,",
        "film.mp4,driver.mp4,all,lips eyes brows pose gaze,,none",
        "film.mp4,driver.mp4,cut,,cut,",
        "empty.mp4,driver.mp4,empty,,,",
    ]
    (folder / "pairs.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_films_keep_their_frames_and_follow_with_their_lips(folder: Path, run_sfumato: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run_sfumato("animate", "--pairs", str(folder / "pairs.csv"), "-o", str(out), "--device=cpu", "--json")
    assert done.returncode == 0, done.stderr
    reasons = {
        row["item"]: row["reason"] for path in (out / "report").iterdir() for row in read_table(str(path)).to_pylist()
    }
    assert reasons.pop("cut").endswith(
        "--on-missing cut leaves out a driver's frames, but a film as the source keeps its frames"
    )
    assert reasons.pop("empty") == f"{folder}/empty.mp4: no face found in any frame"
    assert reasons == {"dub": None, "keys": None, "all": None}
    sidecars = {name: json.loads((out / f"{name}.json").read_text()) for name in reasons}
    assert [sidecar["options"]["motion"]["parts"] for sidecar in sidecars.values()] == [
        ["lips"],
        ["lips"],
        ["lips", "eyes", "pose", "brows", "gaze"],
    ]
    assert sidecars["dub"]["notes"] == [
        "no face in 1 of 5 source frames (0.40-0.50 s): they are shown unchanged",
        "the driver ends after 0.12 of 0.50 s: from there on, the film's own motion is shown",
    ]
    own = [frame.image.astype(int) for frame in decode(folder / "film.mp4")]
    for name, sidecar in sidecars.items():
        info = probe(out / f"{name}.mp4")
        assert (info.num_frames, info.fps, info.width, info.height) == (5, 10, 192, 144)
        assert sidecar["quality"]["csim"] > 0.5
        last = [frame.image for frame in decode(out / f"{name}.mp4")][-1]
        assert np.abs(last - own[-1]).mean() < 1.5  # nobody is there
    spoken = [frame.image for frame in decode(out / "keys.mp4")][3]
    changed = np.abs(spoken - own[3]).max(axis=2)
    assert changed.max() > 40  # the open mouth
    assert changed[:40].max() < 25  # what H.264 changes: hair and background stay
    again = run_sfumato("animate", "--pairs", str(folder / "pairs.csv"), "-o", str(out), "--device=cpu", "--json")
    assert json.loads(again.stdout.splitlines()[-1])["counts"] == {"done": 0, "skipped": 3, "failed": 2}


def test_a_film_has_no_preview(folder: Path, run_sfumato: Run, tmp_path: Path) -> None:
    paths = ("-s", str(folder / "film.mp4"), "-d", str(folder / "driver.mp4"), "-o", str(tmp_path / "out"))
    done = run_sfumato("animate", *paths, "--preview", "--device=cpu", "--json")
    assert done.returncode == 1
    (note,) = json.loads(done.stdout.splitlines()[-1])["notes"]
    assert note.endswith("film.mp4: a preview is made of a picture or an avatar, not of a film")
