"""From films in an object store to shards there to a model: only the URLs differ from a local folder's."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipelines import assets, storage
from pipelines.dataset.reader import ShardDataset
from training.config import TrainConfig
from training.episodes.source import open_dataset, open_loader

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::ResourceWarning")]

FILMS = {"clip_single_face": "man/door/single_face.mp4", "clip_carphone": "driver/car/carphone.mp4"}


def sfumato(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sfumato", *arguments], capture_output=True, text=True, check=False, timeout=300
    )


def outcome(*arguments: str) -> dict[str, object]:
    done = sfumato(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_films_become_shards_and_a_model_without_leaving_the_store(
    gcs: str, tmp_path: Path, tiny_train: Callable[..., TrainConfig]
) -> None:
    for name, path in FILMS.items():
        storage.write_bytes(storage.join(gcs, "films", path), assets.fetch(name).read_bytes())
    root, films = storage.join(gcs, "set"), storage.join(gcs, "films")
    nobody_held_out = ("--val-fraction", "0", "--test-fraction", "0", "--size", "64")
    made = outcome("preprocess", films, root, "--layout", "voxceleb", *nobody_held_out)
    assert made["counts"]["done"] == 2  # type: ignore[index]
    manifest = storage.read_bytes(storage.join(root, "dataset.json"))
    again = outcome("preprocess", films, root, "--layout", "voxceleb", *nobody_held_out)
    assert again["counts"] == made["counts"]
    assert storage.read_bytes(storage.join(root, "dataset.json")) == manifest

    assert outcome("validate", root)["counts"] == {"shards": 2, "clips": 2, "frames": 32, "findings": 0}

    # Random and sequential reading find the same frames.
    dataset = ShardDataset(root)
    videos = {video.video_id: video for video in dataset.videos("train")}
    assert sorted(videos) == ["driver/car", "man/door"]
    for clip in dataset.stream("train"):
        read = dataset.read(videos[clip.key.video_id].frames)
        assert [jpeg for jpeg, _ in read] == [*clip.jpegs]
        assert np.array_equal(np.stack([points for _, points in read]), clip.landmarks)

    # A window of local copies gives what byte ranges give.
    config = tiny_train(read_order="shards", window_shards=1, episodes_per_step=2)
    data = open_dataset(root, config, str(tmp_path / "scratch"))
    with open_loader(config, data) as loader:
        steps = [*loader.steps(0, 4)]
        assert [*(tmp_path / "scratch").glob("*.parquet")]
        loader.cache = None
        for step, decoded in enumerate(steps):
            assert np.array_equal(decoded.images, loader.load(step).images)
    assert not [*(tmp_path / "scratch").glob("*.parquet")]

    flags = ("--num-steps", "2", "--episodes-per-step", "2", "--workers", "1", "--shuffle", "shards")
    places = ("--mlflow", f"sqlite:///{tmp_path}/mlflow.db", "--shard-cache", str(tmp_path / "scratch"))
    model = outcome("meta-train", "demo", "--data", root, "-o", str(tmp_path / "model"), *flags, *places)
    assert model["counts"] == {"steps": 2, "videos": 2, "videos_left_out": 0}
    assert (tmp_path / "model" / "generator.safetensors").exists()

    outcome("forget", root, "--identity", "driver", "--yes")
    assert outcome("validate", root)["ok"]
    outcome("inspect", root, "-o", str(tmp_path / "sheet.html"))
    assert "man" in (tmp_path / "sheet.html").read_text()

    # A shard that is gone is one line that names it.
    (url, *_) = ShardDataset(root).shards("train")
    storage.remove(url)
    failed = sfumato("meta-train", "demo", "--data", root, "-o", str(tmp_path / "other"), *flags, *places)
    assert failed.returncode == 2
    assert failed.stderr.splitlines() == [f"sfumato meta-train: error: {url}: No such file or directory"]
