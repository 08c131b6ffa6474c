"""`sfumato serve`: its options, and one real Ray Serve application that loses a replica in the middle of a job."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from PIL import Image

from pipelines import assets
from serving.app import build_application
from serving.commands.serve import Options, running, to_config
from serving.service.config import API_KEY_VARIABLE, QueueRules, ServiceConfig
from training.checkpoints.bundle import TrainingProvenance, load_bundle
from training.config import ModelConfig, TrainConfig
from training.losses.loss_networks import LossNetworks
from training.losses.perceptual import PerceptualNetwork
from training.losses.perceptual_files import PerceptualFiles
from training.meta_training.checkpoint import save_bundle
from training.meta_training.collectives import SingleProcess
from training.meta_training.step import Learner
from training.models.identity_rows import IdentityRows

KEY = "0123456789abcdef0123"


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)


def test_paths_become_absolute_and_urls_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = to_config(Options("models:/sfumato-base@champion", "data", avatars="gs://bucket/avatars"))
    assert (config.model, config.data_dir, config.avatars) == (
        "models:/sfumato-base@champion",
        str(tmp_path / "data"),
        "gs://bucket/avatars",
    )
    assert to_config(Options("model")).model == str(tmp_path / "model")
    published = to_config(Options("m", vgg19="v.pth", vggface="gs://bucket/f.pth"))
    assert published.perceptual_files == PerceptualFiles(str(tmp_path / "v.pth"), "gs://bucket/f.pth")


def test_on_loopback_the_service_is_open_and_answers_loopback_names_only() -> None:
    config = to_config(Options("m"))
    assert config.open
    assert "*" not in config.allowed_hosts


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org"])
def test_beyond_loopback_a_key_is_required(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=f"listening on {host} needs an API key"):
        to_config(Options("m", host=host))
    monkeypatch.setenv(API_KEY_VARIABLE, KEY)
    assert not to_config(Options("m", host=host)).open


def test_a_missing_key_file_and_a_missing_model_are_told_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-key"):
        to_config(Options("m", api_key_file=str(tmp_path / "no-key")))
    with pytest.raises(FileNotFoundError, match="no-model"), running(Options(str(tmp_path / "no-model"))):
        pass


def test_weights_that_a_model_was_trained_with_are_asked_for_before_anything_starts(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = load_bundle(str(model))
    published = dataclasses.replace(trained, config=dataclasses.replace(trained.config, perceptual="vgg19_vggface"))
    monkeypatch.setattr("training.checkpoints.bundle.load_bundle", lambda url: published)
    with pytest.raises(ValueError, match="the weights of VGG19 are needed"), running(Options(str(model), port=0)):
        pass
    files = {"vgg19": str(model / "no-vgg19"), "vggface": str(model / "no-vggface")}
    with pytest.raises(FileNotFoundError, match="no-vgg19"), running(Options(str(model), port=0, **files)):
        pass


def test_a_port_in_use_is_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ValueError, match=f"cannot listen on 127.0.0.1:{port}"),
            running(Options(str(tmp_path), str(tmp_path / "data"), port=port)),
        ):
            pass


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny base model with random weights: its warp prior moves the picture all the same."""
    config = TrainConfig(
        model=ModelConfig(
            image_size=32,
            generator_channels=(8, 16),
            embedder_channels=(8, 16, 16),
            num_bottleneck_blocks=1,
            attention_size_down=0,
            attention_size_up=0,
            warp_prior=True,
        )
    )
    table = IdentityRows(["someone/video"], 16, learning_rate=1e-4)
    learner = Learner(
        config, table, LossNetworks(config.losses, PerceptualNetwork("alexnet")), SingleProcess(), torch.device("cpu")
    )
    save_bundle(str(tmp_path / "model"), learner, TrainingProvenance(0, 0, "none", "0" * 64))
    return tmp_path / "model"


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    with Image.open(assets.fetch("mona_lisa")) as picture:
        picture.resize((371, 577)).save(tmp_path / "portrait.png")
    return tmp_path / "portrait.png"


@pytest.fixture
def service(ray_session: None, model: Path, tmp_path: Path) -> Iterator[tuple[httpx.Client, Path]]:
    """The service as one application on the session's Ray, with short leases; a client and the jobs table."""
    from ray import serve

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "key").write_text(KEY)
    data = tmp_path / "data"
    config = ServiceConfig(
        str(model), str(data), num_steps=0, api_key_file=str(tmp_path / "key"), queue=QueueRules(lease_s=2.0)
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(build_application(config), name="sfumato")
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
        yield client, data / "jobs.sqlite3"
    serve.delete("sfumato")
    serve.shutdown()


def wait_for(client: httpx.Client, job_id: str, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while True:
        job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
        if reached(job) or job["state"] in ("failed", "cancelled"):
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray Serve's own, on import and in its pydantic models
def test_a_job_survives_the_loss_of_the_replica_that_runs_it(
    service: tuple[httpx.Client, Path], portrait: Path, tmp_path: Path
) -> None:
    client, table = service
    assert client.get("/v1/jobs/" + "0" * 32, headers={"Authorization": "Bearer wrong"}).status_code == 401
    made = client.post("/v1/avatars", files={"pictures": portrait.read_bytes()}, data={"consent": "public domain"})
    assert made.status_code == 202, made.text
    avatar = wait_for(client, made.json()["id"], lambda job: job["state"] == "done")
    assert (avatar["state"], avatar["error"]) == ("done", None)

    driver = assets.fetch("clip_single_face").read_bytes()
    posted = client.post(f"/v1/avatars/{avatar['avatar_id']}/videos", files={"driver": driver})
    job_id = posted.json()["id"]
    wait_for(client, job_id, lambda job: bool(job["progress"] and job["progress"]["done"] > 0))
    with sqlite3.connect(table) as connection:
        (worker,) = connection.execute("SELECT worker FROM jobs WHERE id = ?", (job_id,)).fetchone()
    os.kill(int(worker.rpartition("-")[2]), signal.SIGKILL)
    job = wait_for(client, job_id, lambda job: job["state"] == "done")
    assert (job["state"], job["error"], job["attempts"], job["facts"]["frames"]) == ("done", None, 2, 72)

    from pipelines.media.timestamps import read_frame_table
    from pipelines.media.video import probe

    video = tmp_path / "video.mp4"
    video.write_bytes(client.get(job["result_url"]).raise_for_status().content)
    assert (len(read_frame_table(video)), str(probe(video).fps)) == (72, "30")
    assert not list((table.parent / "uploads").iterdir()), "uploads go when their jobs have ended"
