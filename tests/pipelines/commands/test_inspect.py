import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipelines.commands.inspect import Options, run

Make = Callable[..., Any]
BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr"),
    *("--virtual-time-budget=3000", "--window-size=1400,1800"),
)
HOSTILE = "<img src=x onerror=document.title=1>"


@pytest.fixture
def root(tmp_path: Path, make_row: Make, make_reject: Make, small_shard: Make, make_dataset: Make) -> Path:
    picture = make_row("x", "y", "z", 1).frame_jpeg[0]
    rejects = (make_reject("bob", "v2", "a", "no_face", frames_seen=12, frames_with_face=0, thumbnail=picture),)
    shards = [
        small_shard((make_row("ann", "v1", "a", 9), make_row(HOSTILE, "v1", "a", 12)), rejects),
        small_shard((make_row("cat", "v1", "a", 10),), split="val"),
    ]
    make_dataset(str(tmp_path / "set"), shards)
    return tmp_path / "set"


def test_a_page_is_written_and_its_parts_are_counted(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "pages" / "sheet.html"
    outcome = run(Options(str(root), str(out), clips=2))
    counts = dict(outcome.counts)
    assert counts.pop("bytes") == out.stat().st_size
    assert counts == {"clips": 2, "pictures": 10, "refused": 1, "shards": 2}
    assert outcome.made[0].where == str(out)


def test_a_page_inside_the_data_set_is_refused(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    for out in (str(root / "sheet.html"), "set/pages/sheet.html"):
        with pytest.raises(ValueError, match="lies inside the data set, where sfumato forget would leave it"):
            run(Options("set", out))
    with pytest.raises(ValueError, match="is a folder"):
        run(Options("set", str(tmp_path)))
    run(Options("set", "set.html"))


@pytest.mark.parametrize("clips", [0, 201])
def test_a_page_stays_light(clips: int) -> None:
    with pytest.raises(ValueError, match=rf"clips must lie in \[1, 200\], got {clips}"):
        Options("set", clips=clips)


def browse(page: Path, folder: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


@pytest.mark.long
@pytest.mark.skipif(not BROWSER, reason="no Chromium on PATH")
def test_a_browser_shows_the_page_without_complaints(root: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "sheet.html", tmp_path / "sheet.png"
    command = [sys.executable, "-m", "sfumato", "inspect", str(root), "-o", str(page), "--json"]
    made = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert made["counts"]["pictures"] == 15
    shown = browse(page, tmp_path / "profile", "--dump-dom")
    assert 'data-ready="yes"' in shown.stdout  # the script ran to its end
    assert shown.stdout.count('class="tile"') == 15
    assert shown.stdout.count("data:image/webp;base64,") == 15
    assert "<title>films – data set</title>" in shown.stdout
    assert "CONSOLE" not in shown.stderr  # no script error, nothing that the page's policy blocked
    browse(page, tmp_path / "profile", f"--screenshot={picture}")
    image = cv2.imread(str(picture))
    assert image.shape == (1800, 1400, 3)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 1000  # noise for faces, charts, text
    _, counts = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)
    assert counts.max() < 0.9 * image.size / 3  # the paper is not all there is


@pytest.mark.slow
def test_the_command_says_in_one_line_what_is_wrong(
    tmp_path: Path, run_sfumato: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    for where, code, message in ((tmp_path / "no", 2, "does not exist"), (tmp_path, 1, "is no data set")):
        done = run_sfumato("inspect", str(where), "-o", str(tmp_path / "sheet.html"))
        assert (done.returncode, done.stderr.count("\n"), message in done.stderr) == (code, 1, True)
    assert not (tmp_path / "sheet.html").exists()
