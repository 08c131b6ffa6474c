"""Every console block of README.md and docs/ runs, in the order of the pages and in one folder, or says why not.

A comment above a block says why:

    <!-- needs: a GPU -->        (or: a cluster, the network, time); the text above the block says so, too
    <!-- runs in: .ci/run -->           where continuous integration runs it
    <!-- runs in: make test-long -->    by the last test of this file
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import pytest
import yaml

ROOT = Path(__file__).parents[2]
CI = (ROOT / ".ci" / "run").read_text()
# What a reader has to see above a block that is not run, for each reason.
NEEDS = {
    "a cluster": r"\bcluster\b",
    "a GPU": r"\bGPU\b",
    "the network": r"\bnetwork\b|\bregistries\b",
    "time": r"\b(minutes?|hours?|takes? time)\b",
}
_MARK = re.compile(r"<!-- (needs|runs in): (.+) -->")


@dataclass(frozen=True)
class Block:
    """One console block: its commands, and the mark and the paragraph above it."""

    page: str
    line: int
    commands: tuple[str, ...]
    kind: str
    """`needs`, `runs in`, or "" for one that is run here."""
    reason: str
    paragraph: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """README.md, then the pages of the site in the order of its navigation; generated ones do not exist as files."""
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    return [ROOT / "README.md", *(path for name in _names(nav) if (path := ROOT / "docs" / name).exists())]


def _names(nav: object) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for part in nav if isinstance(nav, list) else nav.values() if isinstance(nav, dict) else ():
        yield from _names(part)


def blocks_of(page: Path) -> Iterator[Block]:
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines):
        if line.strip() != "```console":
            continue
        end = lines.index("```", number)
        mark = _MARK.fullmatch(lines[number - 1])
        above = lines[: number - 1 if mark else number]
        paragraph = "\n".join(above).rstrip().rpartition("\n\n")[2]
        kind, reason = mark.groups() if mark else ("", "")
        commands = "\n".join(lines[number + 1 : end]).replace("\\\n", " ").splitlines()
        yield Block(str(page.relative_to(ROOT)), number + 1, tuple(commands), kind, reason, paragraph)


BLOCKS = [block for page in pages() for block in blocks_of(page)]
RUN_HERE = [block for block in BLOCKS if not block.kind]
LONG = "make test-long"
RUN_LONG = [block for block in BLOCKS if (block.kind, block.reason) == ("runs in", LONG)]
BEFORE_LONG = ("sfumato fine-tune portrait.jpg -o avatar/ --num-steps 0", "sfumato preprocess clips/ shards/")
"""What the pages do before those blocks."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the tutorial asks its reader to have: portraits, driving videos and clips, all of them small."""
    names = ("mona_lisa", "astronaut", "clip_carphone", "clip_single_face")
    command = [sys.executable, "-m", "sfumato", "assets", "fetch", *names, "--json"]
    fetched = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assets = {made["what"]: Path(made["where"]) for made in json.loads(fetched.splitlines()[-1])["made"]}
    folder = tmp_path_factory.mktemp("reader")
    for name in ("portraits", "drivers", "clips"):
        (folder / name).mkdir()
    shutil.copy(assets["mona_lisa"], folder / "portrait.jpg")
    shutil.copy(assets["mona_lisa"], folder / "portraits" / "mona-lisa.jpg")
    shutil.copy(assets["astronaut"], folder / "portraits" / "astronaut.png")
    for name, asset, seconds in (
        ("driver.mp4", "clip_carphone", 0.3),
        ("drivers/ann.mp4", "clip_carphone", 0.3),
        ("drivers/bob.mp4", "clip_single_face", 0.3),
        ("clips/ann.mp4", "clip_carphone", 2.0),
        ("clips/bob.mp4", "clip_single_face", 1.5),
    ):
        cut = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", assets[asset], "-t", str(seconds)]
        subprocess.run([*cut, "-c", "copy", folder / name], check=True)
    return folder


def test_every_page_is_in_the_navigation() -> None:
    assert set((ROOT / "docs").rglob("*.md")) <= set(pages())


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_holds_commands_alone(block: Block) -> None:
    assert block.commands
    assert [line for line in block.commands if not line.startswith("$ ")] == []


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.kind == "needs"], ids=str)
def test_a_block_that_is_not_run_says_why_where_readers_see_it(block: Block) -> None:
    assert block.reason in NEEDS
    assert re.search(NEEDS[block.reason], block.paragraph), block.paragraph


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.kind == "runs in"], ids=str)
def test_a_block_that_runs_elsewhere_is_there(block: Block) -> None:
    if block.reason == LONG:
        assert re.search(NEEDS["time"], block.paragraph), block.paragraph
        return
    assert block.reason == ".ci/run"
    for line in block.commands:
        command = line.removeprefix("$ ")
        if command.startswith("apt-get install -y "):
            packages = command.removeprefix("apt-get install -y ")
            assert f"packages=({packages})" in CI
        else:
            assert re.search(rf"^stage \w+ {re.escape(command)}$", CI, re.MULTILINE), command


@pytest.mark.slow
@pytest.mark.parametrize("block", RUN_HERE, ids=str)
def test_a_block_runs(block: Block, folder: Path) -> None:
    script = "\n".join(line.removeprefix("$ ") for line in block.commands)
    run(script, folder, 300, str(block))


@pytest.fixture(scope="module")
def filled(folder: Path) -> Path:
    """The folder with films, speech, frames of a person, an avatar and a data set, for the blocks that take time."""
    ffmpeg = shlex.join([imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y"])
    lines = [
        "cp drivers/ann.mp4 film.mp4",
        "cp drivers/bob.mp4 speaker.mp4",
        f"{ffmpeg} -f lavfi -i anoisesrc=d=1:a=0.1 speech.wav",
        f"{ffmpeg} -i clips/ann.mp4 -vf fps=4 -frames:v 4 ann-%d.jpg",
        *BEFORE_LONG,
    ]
    run("\n".join(lines), folder, 600, "before the blocks that take time")
    return folder


@pytest.mark.long
@pytest.mark.parametrize("block", RUN_LONG, ids=str)
def test_a_block_that_takes_time_runs(block: Block, filled: Path) -> None:
    run("\n".join(line.removeprefix("$ ") for line in block.commands), filled, 1200, str(block))


def run(script: str, folder: Path, timeout_s: float, what: str) -> None:
    """Run lines of a shell in a folder. Fails with what they print."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    sfumato = f'sfumato() {{ {shlex.quote(sys.executable)} -m sfumato "$@"; }}'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{sfumato}\n{script}"],
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{what}: {script}\n{done.stdout}"
