"""`kill -9` at random moments, through the real command: nothing is lost or doubled, every byte is the same."""

import contextlib
import hashlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines import assets
from pipelines.dataset.manifest import read_manifest

_KILLS = 10


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight small clips that differ in a byte after their end, one person each, and two that give no row."""
    folder = tmp_path_factory.mktemp("corpus")
    video_path = assets.fetch("clip_carphone").read_bytes()
    for number in range(8):
        # A free atom: players and decoders skip it.
        (folder / f"clip-{number}.mp4").write_bytes(video_path + b"\0\0\0\x0cfree" + bytes([number] * 4))
    (folder / "text.mp4").write_text("hello")
    (folder / "clip-9-copy.mp4").write_bytes((folder / "clip-0.mp4").read_bytes())
    return folder


def start(corpus: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sfumato", "preprocess", str(corpus), str(out)]
    flags = ["--size=64", "--frames-per-clip=9", "--max-sample-fps=4", "--no-audio", "--workers=2"]
    return subprocess.Popen(
        [*command, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def finish(corpus: Path, out: Path) -> float:
    begin = time.monotonic()
    assert start(corpus, out).wait(timeout=300) == 0
    return time.monotonic() - begin


def final_files(out: Path) -> dict[str, str]:
    """Every file of the data set but the timings: those of the reports and of the manifest."""
    files = (path for path in out.rglob("*") if path.is_file() and path.suffix != ".json")
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def outcomes(out: Path) -> Counter[str]:
    """How often each clip ended, as a row or as a reject."""
    found: Counter[str] = Counter()
    for path in (*out.glob("clips/*/*.parquet"), *out.glob("rejects/*.parquet")):
        found.update(pq.read_table(path, columns=["source"])["source"].to_pylist())
    return found


def num_done(out: Path) -> int:
    """Shards with a report."""
    return len(list(out.glob("reports/*.json")))


def kills(corpus: Path, out: Path, seconds: float) -> Iterator[bool]:
    """Run and kill, again and again; True where the command had finished before.

    Every other kill comes at any moment of a run, the rest soon after a shard is done.
    """
    rng = random.Random(7)
    for number in itertools.count():
        before, process = num_done(out), start(corpus, out)
        if number % 2:
            while process.poll() is None and num_done(out) == before:
                time.sleep(0.02)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=rng.uniform(0.0, 0.3) if number % 2 else rng.uniform(0.3, 1.0) * seconds)
        finished = process.poll() is not None
        if not finished:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        yield finished


@pytest.mark.long
def test_killed_at_ten_random_moments_the_files_are_those_of_an_undisturbed_run(corpus: Path, tmp_path: Path) -> None:
    calm, out = tmp_path / "calm", tmp_path / "killed"
    seconds = finish(corpus, calm)
    expected = final_files(calm)
    number = shards_seen = 0
    for finished in kills(corpus, out, seconds):
        if finished:
            assert final_files(out) == expected
            shutil.rmtree(out)
            continue
        number += 1
        done = num_done(out)
        shards_seen = max(shards_seen, done)
        assert not (out / "dataset.json").exists() or done == len(read_manifest(str(out)).shards)
        if number == _KILLS:
            break
    finish(corpus, out)
    assert final_files(out) == expected
    assert read_manifest(str(out)).digest == read_manifest(str(calm)).digest
    assert outcomes(out) == Counter(path.name for path in corpus.iterdir())
    assert shards_seen > 0  # some of the kills came in the middle of the work
