"""One real Ray Serve application that loses a replica in the middle of a job."""

from __future__ import annotations

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
from PIL import Image

from pipelines import assets
from serving.app import build_application
from serving.service.config import QueueRules, ServiceConfig

KEY = "0123456789abcdef0123"


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
        str(model),
        str(data),
        num_steps=0,
        api_key_file=str(tmp_path / "key"),
        port=port,
        drain_s=1.0,
        queue=QueueRules(lease_s=2.0),
    )
    serve.start(proxy_location="Disabled")
    serve.run(build_application(config), name="sfumato", route_prefix=None)
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


@pytest.mark.long
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

    still = {"sliders": {"smile": 0.5}, "max_size": 128}
    drawn = client.post(f"/v1/avatars/{avatar['avatar_id']}/stills", json=still)
    while drawn.status_code == 503:  # its process starts with the service, and may take longer
        drawn = client.post(f"/v1/avatars/{avatar['avatar_id']}/stills", json=still)
    assert (drawn.status_code, drawn.content[:3]) == (200, b"\xff\xd8\xff"), drawn.text

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
    assert not list((table.parent / "uploads").rglob("*.*")), "uploads go when their jobs have ended"
