"""Faces that are hard to animate, by their numbers in the list of bad inputs, through one run of `animate`.

Each pair of a pairs file ends in its own way and harms no other. Pictures and films that are broken as files are in
test_bad_media.py.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from bad_faces import SIDE, frames, make_faces
from PIL import Image
from poison import write_poison

from pipelines.media.video import VideoWriter, decode, probe
from pipelines.storage.parquet import read_table

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Case:
    """A row of the pairs file, and how it ends."""

    source: str = "14 painting"
    driver: str = "good"
    reason: str | None = None
    """A part of the reason of its failure; None: there is a video."""
    note: str | None = None
    """A part of the sidecar's only note."""
    frames: int = 2
    columns: dict[str, str] = field(default_factory=dict)


NO_FACE = "no face found"
CASES = {
    "13 none": Case("13 none", reason=NO_FACE),
    "14 painting": Case(),
    "15 two": Case("15 two"),
    "15 the second of two": Case("15 two", columns={"face": "1"}),
    "15 by a point": Case("15 two", columns={"face": "113,107"}),
    "15 the third of two": Case("15 two", reason="face 2 was asked for, but only 2 found", columns={"face": "2"}),
    "15 twenty": Case("15 twenty", columns={"face": "19"}),
    "15 the twenty-first of twenty": Case(
        "15 twenty", reason="face 20 was asked for, but only 20 found", columns={"face": "20"}
    ),
    "16 profile": Case("16 profile"),
    "16 profile away": Case("16 profile away", reason=NO_FACE),
    "17 on its side": Case("17 on its side"),
    "17 upside down": Case("17 upside down"),
    "18 cut by the border": Case("18 cut by the border", reason=NO_FACE),
    "19 12 px": Case("19 12 px"),
    "20 filling the picture": Case("20 filling the picture"),
    "21 occluded": Case("21 occluded"),
    "22 closed eyes": Case("22 closed eyes"),
    "23 dark": Case("23 dark"),
    "23 low contrast": Case("23 low contrast"),
    "23 sepia": Case("23 sepia"),
    "23 cracked": Case("23 cracked"),
    "24 the same twice": Case("24 the same twice"),
    "25 two people": Case("25 two people"),
    "44 at the start": Case(driver="44 at the start", note="no face in 2 of 4 driver frames (0.00-0.08 s)", frames=4),
    "44 in the middle": Case(
        driver="44 in the middle", note="they are cut, with their sound", frames=2, columns={"on_missing": "cut"}
    ),
    "44 at the end": Case(
        driver="44 at the end",
        reason="no face in 2 of 4 driver frames (0.08-0.16 s): --on-missing fail",
        columns={"on_missing": "fail"},
    ),
    "44 another enters": Case(
        driver="44 another enters",
        note="no face in 3 of 11 driver frames (0.32-0.44 s): the portrait is at rest there",
        frames=11,
        columns={"on_missing": "rest"},
    ),
    "44 not there": Case(
        driver="good", reason="face 1 was asked for, but only 1 found (counted from 0)", columns={"driver_face": "1"}
    ),
    "45 mid-blink": Case(driver="45 mid-blink", frames=4),
}


def _drivers(folder: Path) -> None:
    person, other = frames("clip_cap12", *range(0, 40, 5)), frames("clip_single_face", 0, 5, 10)
    blank = [np.zeros_like(person[0])] * 2
    films = {
        "good": person[:2],
        "44 at the start": [*blank, *person[:2]],
        "44 in the middle": [person[0], *blank, person[1]],
        "44 at the end": [*person[:2], *blank],
        "44 another enters": [*person, *other],
        "45 mid-blink": frames("clip_langer", 90, 150, 160, 170),
    }
    for name, pictures in films.items():
        with VideoWriter(folder / f"{name}.mp4", width=SIDE, height=SIDE, fps=Fraction(25)) as writer:
            for picture in pictures:
                writer.write(picture)


def _avatars(folder: Path, run_sfumato: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """Make avatars of T pictures that do not belong together; what `fine-tune` says is tested with it."""
    (folder / "again.png").write_bytes((folder / "14 painting.png").read_bytes())
    for name, other in (("24 the same twice", "again"), ("25 two people", "21 somebody")):
        pictures = [str(folder / f"{picture}.png") for picture in ("14 painting", other)]
        done = run_sfumato("fine-tune", *pictures, "-o", str(folder / name), "--num-steps=0", "--device=cpu")
        assert done.returncode == 0, done.stderr


def _file(folder: Path, source: str) -> str:
    return source if (folder / source).is_dir() else f"{source}.png"


@pytest.fixture(scope="module")
def results(
    run_sfumato: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str | None]]:
    """The folder of results, and the reason of failure of each case; None: there is a video."""
    folder = tmp_path_factory.mktemp("faces")
    make_faces(folder)
    _drivers(folder)
    _avatars(folder, run_sfumato)
    rows = [
        {"source": _file(folder, case.source), "driver": f"{case.driver}.mp4", "name": name, **case.columns}
        for name, case in CASES.items()
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = ("--frame=crop", "--max-size=64", "--no-side-by-side", "--no-mosaic", "--json")
    done = run_sfumato("animate", "--pairs", str(folder / "pairs.jsonl"), "-o", str(folder / "out"), *small)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found = [row for path in (folder / "out" / "report").iterdir() for row in read_table(str(path)).to_pylist()]
    return folder / "out", {row["item"]: row["reason"] for row in found}


@pytest.mark.parametrize("name", CASES)
def test_each_face_ends_in_its_own_way(name: str, results: tuple[Path, dict[str, str | None]]) -> None:
    (out, reasons), case = results, CASES[name]
    reason = reasons[name]
    if case.reason is not None:
        assert reason is not None
        assert case.reason in reason
        assert len(reason.splitlines()) == 1
        assert not (out / f"{name}.mp4").exists()
        return
    assert reason is None
    assert probe(out / f"{name}.mp4").num_frames == case.frames
    sidecar = json.loads((out / f"{name}.json").read_text())
    assert len(sidecar["notes"]) == (case.note is not None)
    assert (case.note or "") in "".join(sidecar["notes"])
    quality = sidecar["quality"]
    assert 0.3 < quality["csim"] <= 1
    assert (quality["missing_share"] > 0) == (case.note is not None)


def test_the_face_that_is_asked_for_is_animated(results: tuple[Path, dict[str, str | None]]) -> None:
    """The second of two faces, by number and by a point on it, is another than the first."""
    first, *others = (
        next(decode(results[0] / f"{name}.mp4")).image.astype(float)
        for name in ("15 two", "15 the second of two", "15 by a point")
    )
    assert np.abs(others[0] - others[1]).mean() < 1
    assert np.abs(others[0] - first).mean() > 20


def test_a_preview_warns_before_any_video_is_made_and_a_crash_costs_its_own_driver(
    run_sfumato: Callable[..., subprocess.CompletedProcess[str]],
    results: tuple[Path, dict[str, str | None]],
    tmp_path: Path,
) -> None:
    folder = results[0].parent
    sources = [str(folder / f"{name}.png") for name in ("22 closed eyes", "13 none")]
    driver, out = folder / "44 at the start.mp4", tmp_path / "out"
    crash = tmp_path / "crash.mp4"
    crash.write_bytes(driver.read_bytes() + b"other content")
    poison = {"PYTHONPATH": write_poison(tmp_path / "poison")}
    flags = ("-s", *sources, "-d", str(crash), str(driver), "-o", str(out), "--preview")
    done = run_sfumato("animate", *flags, "--json", environment=poison)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["counts"] == {"previews": 1, "failed": 3}
    assert f"22 closed eyes--crash: {crash}: the decoder crashed (signal SIGSEGV)" in answer["notes"]
    name = "22 closed eyes--44 at the start"
    assert f"{name}: portrait: eyes shut at rest: they will not open well" in answer["notes"]
    assert any(note.startswith(f"{name}: driver: no face in 2 of 4 frames") for note in answer["notes"])
    assert any(note.endswith("13 none.png: no face found") for note in answer["notes"])
    with Image.open(out / "previews" / f"{name}.webp") as picture:
        assert picture.width == 2 * 416 + 5 * 208
    page = (out / "previews" / "index.html").read_text()
    assert "eyes shut at rest" in page
    assert not list(out.glob("*.mp4"))
    refused = run_sfumato("animate", *flags, "--workers", "2")
    assert refused.returncode == 2
    assert "--preview works in this process" in refused.stderr
