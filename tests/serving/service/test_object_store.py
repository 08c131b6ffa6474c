"""The service on an object store (an emulator of Google's): nothing of it needs a folder that machines share."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from pipelines import assets, storage
from serving.service.config import ServiceConfig
from serving.service.http.api import create_api
from serving.service.http.service import Service
from serving.service.work.child import make_work
from serving.service.work.lease import JobOrder, Lease

# What a worker's process leaves open ends with it; here it is collected.
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]

_KEYS = json.dumps({"fps": 10, "keys": [{"time": 0}, {"time": 0.5, "yaw": 10}]}).encode()


@pytest.fixture
def config(gcs: str, tmp_path: Path, model: Path) -> ServiceConfig:
    database = f"sqlite:///{tmp_path}/jobs.sqlite3"
    return ServiceConfig(str(model), f"{gcs}/data", database, num_steps=0, open=True, device="cpu")


def call(service: Service, method: str, path: str, **more: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(create_api(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **more)

    return asyncio.run(run())


def work_on(config: ServiceConfig, service: Service, kind: Any) -> str:
    """Do the oldest job as a worker on another machine does, in this process."""
    job = service.jobs.claim(kind, "elsewhere")
    assert job is not None
    facts = make_work(kind, config)(JobOrder(job.id, job.avatar_id, job.request), Lease())
    service.store.remove_uploads(job.id)
    assert service.jobs.finish(job, facts)
    return job.id


def files(config: ServiceConfig) -> list[str]:
    return sorted(storage.relative(url, config.data_dir) for url in storage.list(config.data_dir))


def test_an_avatar_and_its_video_come_and_go(config: ServiceConfig, tmp_path: Path) -> None:
    with Image.open(assets.fetch("mona_lisa")) as picture:
        picture.resize((371, 577)).save(tmp_path / "portrait.png")
    service = Service.create(config)
    sent = {"files": {"pictures": ("me.png", (tmp_path / "portrait.png").read_bytes())}}
    avatar = call(service, "POST", "/v1/avatars", **sent).json()
    assert files(config) == [f"uploads/{avatar['id']}/picture-01.png"]
    work_on(config, service, "avatar")
    assert {name.split("/")[0] for name in files(config)} == {"avatars"}
    portrait = call(service, "GET", f"/v1/avatars/{avatar['avatar_id']}/portrait")
    assert (portrait.headers["content-type"], portrait.content[:2]) == ("image/jpeg", b"\xff\xd8")

    driver = call(service, "POST", "/v1/drivers", files={"driver": ("turn.json", _KEYS)}).json()
    assert call(service, "GET", driver["content_url"]).content == _KEYS
    made = call(service, "POST", f"/v1/avatars/{avatar['avatar_id']}/videos", json={"driver_id": driver["id"]})
    assert made.status_code == 202, made.text
    job_id = work_on(config, service, "video")
    whole = call(service, "GET", f"/v1/jobs/{job_id}/result")
    assert (whole.status_code, whole.content[4:8]) == (200, b"ftyp")
    for asked, status, content in (
        ("bytes=4-7", 206, b"ftyp"),
        ("bytes=-3", 206, whole.content[-3:]),
        (f"bytes={len(whole.content) - 2}-", 206, whole.content[-2:]),
        (f"bytes={len(whole.content)}-", 416, b""),
    ):
        part = call(service, "GET", f"/v1/jobs/{job_id}/result", headers={"Range": asked})
        assert (part.status_code, part.content) == (status, content), asked
    head = call(service, "HEAD", f"/v1/jobs/{job_id}/result")
    assert (head.status_code, int(head.headers["content-length"])) == (200, len(whole.content))

    assert call(service, "DELETE", f"/v1/avatars/{avatar['avatar_id']}").status_code == 204
    assert files(config) == [f"drivers/{driver['id']}/driver.json"]
    assert call(service, "DELETE", f"/v1/drivers/{driver['id']}").status_code == 204
    assert files(config) == []
