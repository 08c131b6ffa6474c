"""The HTTP interface through ASGI in this process: no Ray, no network; tests settle the jobs themselves."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from pipelines.media.video import VideoWriter
from serving.service.config import QueueRules, UploadLimits
from serving.service.http.access import Access
from serving.service.http.api import create_api
from serving.service.http.service import Service
from serving.service.state.audit import AuditLog
from serving.service.state.database import Database
from serving.service.state.drivers import Drivers
from serving.service.state.job_queue import JobQueue
from serving.service.state.keys import ApiKeys
from serving.service.store import Store

RIGHT_KEY = "an-api-key-of-some-length"
LIMITS = UploadLimits(max_body=200_000, max_picture=50_000, max_pictures=3, max_field=200, max_fields=3)


@dataclass
class ApiClient:
    """Sends requests to the routes of `service`."""

    service: Service

    def call(self, method: str, path: str, *, key: str | None = RIGHT_KEY, **more: Any) -> httpx.Response:
        """Send one request. `headers` in `more` are added to the API key's; `key` None sends none."""
        sent = {} if key is None else {"Authorization": f"Bearer {key}"}
        headers = {**sent, **more.pop("headers", {})}

        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(create_api(self.service), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, path, headers=headers, **more)

        return asyncio.run(run())

    def post_avatar(
        self, *contents: bytes, name: str = "me.png", field: str = "pictures", **more: Any
    ) -> httpx.Response:
        """Upload pictures, by default one."""
        files = [(field, (name, content)) for content in contents or (picture_bytes(),)]
        return self.call("POST", "/v1/avatars", files=files, **more)

    def post_driver(self, avatar_id: str, content: bytes) -> httpx.Response:
        """Upload a driver for a video of the avatar."""
        files = {"driver": ("driver.mp4", content)}
        return self.call("POST", f"/v1/avatars/{avatar_id}/videos", files=files)

    def ready_avatar(self) -> str:
        """Upload a picture and finish its job; return the avatar's id."""
        avatar_id: str = self.post_avatar().json()["avatar_id"]
        job = self.service.jobs.claim("avatar", "test")
        assert job is not None
        assert self.service.jobs.finish(job, {"num_steps": 40, "base_model": "abc"})
        return avatar_id

    @property
    def uploads(self) -> list[Path]:
        """Upload folders that exist."""
        folder = Path(self.service.store.root) / "uploads"
        return list(folder.iterdir()) if folder.exists() else []

    def uploads_of(self, job_id: str) -> list[Path]:
        """Uploaded files of a job that are stored."""
        folder = Path(self.service.store.root) / "uploads" / job_id
        return list(folder.iterdir()) if folder.exists() else []


def picture_bytes(size: tuple[int, int] = (8, 8), format: str = "PNG") -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", size, (200, 100, 50)).save(sink, format)
    return sink.getvalue()


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return make_service(tmp_path / "data", Database(f"sqlite:///{tmp_path}/data/jobs.sqlite3"))


def make_service(
    data: Path, database: Database, limits: UploadLimits = LIMITS, key: str | None = RIGHT_KEY, host: str = "*"
) -> Service:
    """Return a service on a database, with a queue of three jobs."""
    jobs = JobQueue(database, QueueRules(max_waiting=3, retry_after_s=7))
    access = Access(key, ApiKeys(database), key is None, (host,))
    return Service(jobs, Drivers(database), AuditLog(database), Store.create(str(data)), access, limits)


@pytest.fixture
def client(service: Service) -> ApiClient:
    return ApiClient(service)


@pytest.fixture
def picture() -> Any:
    """picture(size=(8, 8), format="PNG"): the bytes of a small picture."""
    return picture_bytes


@pytest.fixture
def video(tmp_path: Path) -> bytes:
    """A driver of three frames."""
    path = tmp_path / "driver.mp4"
    with VideoWriter(path, width=32, height=32, fps=Fraction(25)) as writer:
        for level in (0, 100, 200):
            writer.write(np.full((32, 32, 3), level, np.uint8))
    return path.read_bytes()


@pytest.fixture
def refusal() -> Any:
    """refusal(response): the status, code and detail of its problem document."""

    def read(response: httpx.Response) -> tuple[int, str, str]:
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
        assert problem["status"] == response.status_code
        return response.status_code, problem["code"], problem["detail"]

    return read
