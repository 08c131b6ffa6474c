"""The whole line with everything in an object store and MLflow in Postgres: films, shards, a run, its registered model,
an avatar and videos. The commands differ from those of one machine by their URLs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from postgres import create_database

from pipelines import assets, storage
from pipelines.media.ffmpeg_process import ffmpeg_executable

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]  # of stores and of MLflow

FILMS = {"clip_single_face": "man/door/single_face.mp4", "clip_carphone": "driver/car/carphone.mp4"}
RAY = {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_worker_niceness": "0"}
REGISTERED = "models:/sfumato-base@champion"


def driver(folder: Path) -> Path:
    """The first ten frames of a clip."""
    path, cut = folder / "driver.mp4", ("-frames:v", "10", "-an", "-c:v", "libx264")
    command = [ffmpeg_executable(), "-nostdin", "-v", "error", "-i", assets.fetch("clip_carphone"), *cut, path]
    subprocess.run(command, check=True)
    return path


def test_the_line_runs_on_a_store_and_a_database(gcs: str, postgres: str, tmp_path: Path) -> None:
    database = create_database(postgres)

    def sfumato(*arguments: str, **variables: str) -> dict[str, Any]:
        # A folder of its own, to see that nothing is left there. Ray's workers would wait for all others' processes.
        done = subprocess.run(
            [sys.executable, "-m", "sfumato", *arguments, "--json"],
            capture_output=True,
            text=True,
            timeout=600,
            cwd=tmp_path / "here",
            env=os.environ | RAY | variables,
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout.splitlines()[-1]))

    (tmp_path / "here").mkdir()
    films, root, run, avatar, videos = (storage.join(gcs, name) for name in ("films", "set", "run", "avatar", "videos"))
    for name, path in FILMS.items():
        storage.write_bytes(storage.join(films, path), assets.fetch(name).read_bytes())
    portrait, motion = storage.join(gcs, "portrait.jpg"), storage.join(gcs, "driver.mp4")
    storage.write_bytes(portrait, assets.fetch("mona_lisa").read_bytes())
    storage.write_bytes(motion, driver(tmp_path).read_bytes())

    nobody_held_out = ("--val-fraction", "0", "--test-fraction", "0", "--size", "64")
    made = sfumato("preprocess", films, root, "--layout", "voxceleb", *nobody_held_out)
    assert made["counts"]["done"] == 2
    steps = ("--num-steps", "2", "--episodes-per-step", "2", "--workers", "1", "--shuffle", "shards")
    cache = ("--shard-cache", str(tmp_path / "cache"))
    trained = sfumato("meta-train", "demo", "--data", root, "-o", run, "--mlflow", database, *steps, *cache)
    assert f"registered as {REGISTERED}" in trained["notes"]

    registry = {"MLFLOW_TRACKING_URI": database}
    made = sfumato("fine-tune", portrait, "--model", REGISTERED, "--num-steps", "0", "-o", avatar, **registry)
    version = storage.read_bytes(storage.join(run, "manifest.json"))
    manifest = json.loads(storage.read_bytes(storage.join(avatar, "manifest.json")))
    assert manifest["base_version"] == sha256(version).hexdigest()
    plain = ("--no-side-by-side", "--no-mosaic")
    animated = sfumato("animate", "-s", avatar, "-d", motion, "-o", videos, *plain)
    assert animated["counts"] == {"done": 1, "skipped": 0, "failed": 0}

    (verdict,) = sfumato("verify", storage.join(videos, "avatar--driver.mp4"), "--lineage", **registry)["files"]
    assert verdict["state"] == "ours"
    lineage = verdict["lineage"]
    assert lineage["registered_as"] == "models:/sfumato-base/1"
    assert lineage["data_set"].startswith(f"{root}, digest")
    assert "it is there: 2 clips" in lineage["data_set"]
    assert [*(tmp_path / "here").iterdir()] == []
