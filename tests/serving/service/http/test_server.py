"""The web server under load, over real connections: memory, slow clients, many clients at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from web.front_end_process import free_port, front_end

from serving.service.config import MIB, QueueRules, ServiceConfig, UploadLimits
from serving.service.state.database import Database
from serving.service.state.job_queue import JobQueue

pytestmark = pytest.mark.long

_QUEUE = QueueRules(max_waiting=20, retry_after_s=3)
_LIMITS = UploadLimits(max_body=64 * MIB, max_picture=64 * MIB, idle_timeout_s=4.0, max_uploads=150)
_HEAD = b'--x\r\nContent-Disposition: form-data; name="driver"; filename="a.mp4"\r\n\r\n'


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ServiceConfig:
    data = str(tmp_path_factory.mktemp("service") / "data")
    return ServiceConfig("m", data, open=True, port=free_port(), drain_s=1.0, limits=_LIMITS, queue=_QUEUE)


@pytest.fixture(scope="module")
def server(config: ServiceConfig) -> Iterator[psutil.Process]:
    with front_end(config) as process:
        yield psutil.Process(process.pid)


@pytest.fixture
def url(server: psutil.Process, config: ServiceConfig) -> str:
    return f"http://127.0.0.1:{config.port}"


def test_uploads_do_not_sit_in_memory(server: psutil.Process, url: str) -> None:
    """A body far above the limit, sent in chunks without its length, and several large ones at once."""

    async def chunks(num_mib: int) -> AsyncIterator[bytes]:
        yield _HEAD
        for _ in range(num_mib):
            yield bytes(MIB)
        yield b"\r\n--x--\r\n"

    async def send(client: httpx.AsyncClient, num_mib: int) -> int:
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        try:
            return (await client.post("/v1/drivers", content=chunks(num_mib), headers=headers)).status_code
        except httpx.TransportError:  # the server stops reading what it has refused
            return 413

    async def run() -> tuple[list[int], dict[int, float], dict[int, float]]:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            await client.get("/healthz")
            before, most, done = rss(server), {}, False

            async def watch() -> None:
                while not done:
                    for pid, mib in rss(server).items():
                        most[pid] = max(mib, most.get(pid, 0.0))
                    await asyncio.sleep(0.02)

            watching = asyncio.create_task(watch())
            statuses = await asyncio.gather(send(client, 200), *(send(client, 40) for _ in range(6)))
            done = True
            await watching
            return statuses, before, most

    statuses, before, most = asyncio.run(run())
    assert statuses == [413, *[422] * 6], "too large; zeros are no video"
    grown = most.pop(server.pid) - before[server.pid]
    assert grown < 60, f"{grown:.0f} MiB more for 440 MiB of uploads"
    # Each untrusted film is opened by a process of its own: the size of its libraries, whatever that of the film.
    assert max(most.values()) < 200


def rss(process: psutil.Process) -> dict[int, float]:
    """Return the memory of a process and of its children by id, MiB."""
    found = {}
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            found[each.pid] = each.memory_info().rss / MIB
    return found


def test_slow_uploads_stop_nobody_else_and_end(url: str, config: ServiceConfig) -> None:
    alone = ask_other_things([], url)
    with contextlib.ExitStack() as connections:
        slow = [connections.enter_context(slow_upload(config.port)) for _ in range(100)]
        # Half a second on a machine that does nothing else; on a busy one all takes longer.
        assert ask_other_things(slow, url) < max(0.5, 3 * alone)
        for connection in slow:  # of all, those that send now and then too
            connection.settimeout(15.0)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(b"0")
            assert b" 408 " in connection.recv(1000).splitlines()[0]


def slow_upload(port: int) -> socket.socket:
    """Begin an upload."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(
        b"POST /v1/drivers HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + _HEAD
    )
    return connection


def ask_other_things(slow: list[socket.socket], url: str) -> float:
    """Send many requests beside slow uploads; return the time within which 99 of 100 are answered, seconds."""

    async def run() -> list[tuple[int, float]]:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:

            async def poll(path: str, method: str) -> list[tuple[int, float]]:
                seen = []
                for _ in range(12):
                    for connection in slow[:20]:
                        connection.sendall(b"0")  # a byte now and then: never idle, far below the least rate
                    started = time.monotonic()
                    reply = await client.request(method, path)
                    seen.append((reply.status_code, time.monotonic() - started))
                return seen

            polls = [poll("/healthz", "GET"), *(poll("/v1/jobs", "GET") for _ in range(7))]
            polls += [poll(f"/v1/jobs/{'0' * 32}/cancel", "POST"), poll("/v1/drivers", "HEAD")]
            return [each for seen in await asyncio.gather(*polls) for each in seen]

    seen = asyncio.run(run())
    assert {status for status, _ in seen} == {200, 404}, "no 429"
    times = sorted(seconds for _, seconds in seen)
    return times[int(0.99 * len(times))]


def test_two_hundred_clients_at_once_are_queued_or_told_when_to_try_again(
    url: str, config: ServiceConfig, picture: bytes
) -> None:
    async def run() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
            files = {"pictures": ("me.png", picture)}
            return await asyncio.gather(*(client.post("/v1/avatars", files=files) for _ in range(200)))

    replies = asyncio.run(run())
    taken = [reply for reply in replies if reply.status_code == 202]
    refused = [reply for reply in replies if reply.status_code != 202]
    assert {reply.status_code for reply in refused} == {429}
    for reply in refused:
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.headers["Retry-After"] in ("3", "5")
        assert json.loads(reply.content)["status"] == 429
    jobs = JobQueue(Database(config.database_url), config.queue)
    assert len(taken) == config.queue.max_waiting == jobs.counts("avatar").queued
    assert {reply.json()["id"] for reply in taken} == {job.id for job in jobs.list(state="queued")}
    kept = {path.name for path in (Path(config.data_dir) / "uploads").iterdir()}
    assert kept == {reply.json()["id"] for reply in taken}, "refused uploads leave nothing"


@pytest.fixture
def picture() -> bytes:
    import io

    from PIL import Image

    sink = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 100, 50)).save(sink, "PNG")
    return sink.getvalue()
