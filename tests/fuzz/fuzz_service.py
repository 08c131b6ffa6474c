"""The service's upload routes as a target of the fuzzing, in the process that checks inputs."""

from __future__ import annotations

import asyncio
import tempfile
from functools import cache
from pathlib import Path

import httpx

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

_PICTURES = ("jpg", "png", "webp", "tif")


@cache
def _service() -> Service:
    folder = tempfile.mkdtemp(prefix="sfumato-fuzz-service-")
    database = Database(f"sqlite:///{folder}/jobs.sqlite3")
    access = Access(None, ApiKeys(database), True, ("*",))
    jobs = JobQueue(database, QueueRules(max_waiting=10**9))
    return Service(jobs, Drivers(database), AuditLog(database), Store.create(folder), access, UploadLimits())


def upload(path: Path) -> None:
    """Upload a picture or a driver.

    Raises:
        ValueError: the service has refused it; the message is its own, after the file's name.
        RuntimeError: a fault of the service.
    """
    asyncio.run(_upload(path))


async def _upload(path: Path) -> None:
    picture = path.suffix[1:] in _PICTURES
    route, field = ("/v1/avatars", "pictures") if picture else ("/v1/drivers", "driver")
    transport = httpx.ASGITransport(create_api(_service()))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        reply = await client.post(route, files={field: (path.name, path.read_bytes())})
        if reply.status_code >= 500:
            raise RuntimeError(f"{reply.status_code} {reply.text}")
        if reply.is_client_error:
            raise ValueError(f"{path.name}: {reply.json()['detail']}")
        made = reply.json()
        kept = f"/v1/jobs/{made['id']}" if picture else f"/v1/drivers/{made['id']}"
        (await client.delete(kept)).raise_for_status()
