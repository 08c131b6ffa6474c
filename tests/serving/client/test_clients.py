"""Both clients against a real server on loopback; a thread settles the jobs."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from PIL import Image

from serving.bodies import JobView, VideoOptions
from serving.client import AsyncClient, Client, JobFailed, ServiceError
from serving.service.config import QueueRules, UploadLimits
from serving.service.http.access import Access
from serving.service.http.api import create_api
from serving.service.http.service import Service
from serving.service.state.audit import AuditLog
from serving.service.state.database import Database
from serving.service.state.drivers import Drivers
from serving.service.state.job_queue import JobQueue
from serving.service.state.keys import ApiKeys
from serving.service.state.requests import VideoRequest
from serving.service.store import Store

pytestmark = pytest.mark.slow

KEY = "an-api-key-of-some-length"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("client")
    Image.new("RGB", (8, 8), (200, 100, 50)).save(folder / "me.png")
    (folder / "keys.json").write_text('[{"time": 0}, {"time": 1, "smile": 0.5}]')
    return folder


@pytest.fixture(scope="module")
def service(folder: Path) -> Service:
    database = Database(f"sqlite:///{folder}/jobs.sqlite3")
    jobs = JobQueue(database, QueueRules(max_waiting=3, retry_after_s=7, keep_uploads_s=60.0))
    access = Access(KEY, ApiKeys(database), open=False, allowed_hosts=("*",))
    return Service(
        jobs, Drivers(database), AuditLog(database), Store.create(str(folder / "data")), access, UploadLimits()
    )


@pytest.fixture(scope="module")
def url(service: Service) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_api(service), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def settle(service: Service, kind: str, *, error: str | None = None, video: bytes = b"") -> None:
    """Do what a worker does."""
    job = service.jobs.claim(kind, "test")  # type: ignore[arg-type]
    assert job is not None
    if error is not None:
        service.jobs.fail(job, error, "input")
        return
    if isinstance(job.request, VideoRequest):
        made = Path(service.store.root) / "made.mp4"
        made.write_bytes(video)
        service.store.put(made, service.store.result(job.id))
    service.jobs.finish(job, {"frames": 3})


def test_a_portrait_becomes_a_video(url: str, service: Service, folder: Path, tmp_path: Path) -> None:
    with Client(url, KEY) as client:
        avatar = client.create_avatar([folder / "me.png"], consent="It is me.")
        settle(service, "avatar")
        seen: list[JobView] = []
        assert client.wait(avatar.id, timeout_s=10.0, on_progress=seen.append).state == "done"
        assert client.avatar(avatar.avatar_id).consent == "It is me."
        options = VideoOptions(frame="crop", parts="lips")
        job = client.create_video(avatar.avatar_id, driver_id="builtin:talk", options=options)
        settle(service, "video", video=b"a video")
        client.download(client.wait(job.id).id, tmp_path / "video.mp4")
        assert (tmp_path / "video.mp4").read_bytes() == b"a video"
        assert service.jobs.get(job.id).request == VideoRequest("talk", "builtin:talk", options)
        assert [each.id for each in client.jobs(avatar_id=avatar.avatar_id)] == [job.id, avatar.id]
        client.delete_avatar(avatar.avatar_id)
        with pytest.raises(ServiceError, match="there is no such avatar"):
            client.avatar(avatar.avatar_id)
        assert not list(client.jobs())
        assert not [path for path in Path(service.store.root).rglob("*") if path.is_file() and path.name != "made.mp4"]


def test_drivers_and_key_frames_drive(url: str, service: Service, folder: Path) -> None:
    with Client(url, KEY) as client:
        avatar = client.create_avatar([folder / "me.png"])
        settle(service, "avatar")
        driver = client.create_driver(folder / "keys.json", name="a smile")
        assert [each.name for each in client.drivers()][-1] == "a smile"
        stored = client.create_video(avatar.avatar_id, driver_id=driver.id)
        drawn = client.create_video(avatar.avatar_id, key_frames=[{"time": 0.0}, {"time": 1.0, "smile": 0.5}])
        assert (stored.position, drawn.position) == (1, 2)
        assert client.cancel(stored.id).state == "cancelled"
        settle(service, "video", error="driver: it does not move")
        with pytest.raises(JobFailed, match="the video job is failed: driver: it does not move"):
            client.wait(drawn.id)
        assert client.retry(stored.id).state == "queued"
        with pytest.raises(TimeoutError, match="still queued"):
            client.wait(stored.id, timeout_s=0.0)
        client.delete_job(stored.id)
        client.delete_driver(driver.id)
        client.delete_avatar(avatar.avatar_id)
        with pytest.raises(ValueError, match="give one of driver, driver_id and key_frames"):
            client.create_video(avatar.avatar_id)


def test_a_refusal_is_the_services_own_words(url: str, service: Service, folder: Path) -> None:
    with Client(url, "wrong-key-of-some-length") as stranger, pytest.raises(ServiceError) as refused:
        stranger.create_avatar([folder / "me.png"])
    assert (refused.value.problem.status, refused.value.problem.code) == (401, "unauthorized")
    with Client(url, KEY) as client:
        first = client.create_avatar([folder / "me.png"], idempotency_key="once")
        assert client.create_avatar([folder / "me.png"], idempotency_key="once").id == first.id
        made = [first, *(client.create_avatar([folder / "me.png"]) for _ in range(2))]
        with pytest.raises(ServiceError, match="3 jobs are waiting already") as full:
            client.create_avatar([folder / "me.png"])
        assert full.value.retry_after_s == 7
        for job in made:
            client.delete_job(job.id)


def test_the_asynchronous_client_does_the_same(url: str, service: Service, folder: Path, tmp_path: Path) -> None:
    async def run() -> None:
        async with AsyncClient(url, KEY) as client:
            avatar = await client.create_avatar([folder / "me.png"], consent="It is me.")
            settle(service, "avatar")
            await client.wait(avatar.id, timeout_s=10.0)
            assert [each.id async for each in client.avatars()] == [avatar.avatar_id]
            job = await client.create_video(avatar.avatar_id, driver=folder / "keys.json")
            settle(service, "video", video=b"a video")
            await client.download((await client.wait(job.id)).id, tmp_path / "video.mp4")
            assert [each.kind async for each in client.jobs(state="done")] == ["video", "avatar"]
            await client.delete_avatar(avatar.avatar_id)
            with pytest.raises(ServiceError, match="there is no such job"):
                await client.job(job.id)

    asyncio.run(run())
    assert (tmp_path / "video.mp4").read_bytes() == b"a video"
