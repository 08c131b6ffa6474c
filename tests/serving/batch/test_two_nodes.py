"""Batch animation on two machines of one core each, by the documented command: a worker and a machine are killed, and
every video is that of one machine."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from hashlib import sha256
from pathlib import Path

import av
import pytest
from bad_videos import ffmpeg
from clusters.two_nodes import TwoNodes, kill_one, result, two_nodes, wait_until
from PIL import Image

from pipelines import assets

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::ResourceWarning")]

_PORTRAITS, _NUM_DRIVERS, _NUM_FRAMES = ("mona_lisa", "astronaut"), 6, 40
_NAMES = {f"{portrait}--{number}" for portrait in _PORTRAITS for number in range(_NUM_DRIVERS)}
_SMALL = ("--max-size", "96", "--no-side-by-side", "--no-mosaic")


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with small portraits and short driving videos, each another part of a clip."""
    for name in ("portraits", "drivers"):
        (tmp_path / name).mkdir()
    for name in _PORTRAITS:
        with Image.open(assets.fetch(name)) as picture:
            picture.convert("RGB").resize((256, 256 * picture.height // picture.width)).save(
                tmp_path / "portraits" / f"{name}.png"
            )
    for number in range(_NUM_DRIVERS):
        part = ("-vf", f"trim=start_frame={10 * number}:end_frame={10 * number + _NUM_FRAMES},setpts=PTS-STARTPTS")
        ffmpeg("-i", assets.fetch("clip_carphone"), *part, "-an", tmp_path / "drivers" / f"{number}.mp4")
    return tmp_path


def finished(films: Path) -> set[str]:
    return {path.stem for path in films.glob("*--*.json")}


def frames(film: Path) -> list[str]:
    with av.open(str(film)) as container:
        return [sha256(frame.to_ndarray().tobytes()).hexdigest() for frame in container.decode(video=0)]


def test_every_video_is_made_whatever_is_killed_and_equals_that_of_one_machine(inputs: Path) -> None:
    films, alone = inputs / "films", inputs / "alone"
    places = {f"gs://my-bucket/{name}": str(inputs / name) for name in ("portraits", "drivers", "films")}
    with two_nodes(inputs) as cluster:
        command = cluster.command("animate", places, *_SMALL)
        for said in cluster.refusals(command):
            assert said.splitlines()[-1].startswith(f"sfumato animate: error: --ray-address {cluster.address}: ")
            assert "Traceback" not in said
        assert not finished(films)
        with cluster.started(command) as animating:
            # The second machine is in the middle of a task each time.
            for harm in (lambda: kill_one(cluster.second, "ray::RemoteWorker"), cluster.second.kill):
                at_work = partial(cluster.second.workers, "ray::RemoteWorker.perform")
                wait_until(at_work, animating, "the second machine to work")
                harm()
            made = result(animating)
    assert made["counts"] == {"done": len(_NAMES), "skipped": 0, "failed": 0}
    assert finished(films) == _NAMES

    one_machine(cluster, inputs, alone)
    for name in _NAMES:
        expected = frames(alone / f"{name}.mp4")
        assert len(expected) == _NUM_FRAMES
        assert frames(films / f"{name}.mp4") == expected, name


def one_machine(cluster: TwoNodes, inputs: Path, out: Path) -> None:
    """Make the same videos in one process on one core."""
    held = "import os; os.sched_setaffinity(0, {0}); import sfumato; sfumato.command()"
    places = ("-s", str(inputs / "portraits"), "-d", str(inputs / "drivers"), "-o", str(out))
    command = [sys.executable, "-c", held, "animate", *places, *_SMALL]
    subprocess.run(command, env=cluster.environment, check=True, timeout=300)
