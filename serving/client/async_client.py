"""The client for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx

from serving.bodies import AvatarView, DriverView, JobKind, JobView, PublicState, VideoOptions
from serving.client.calls import POLL_S, TIMEOUT_S, Call, Calls, check, ended, settings

_T = TypeVar("_T")


class AsyncClient:
    """`Client` for asyncio."""

    def __init__(self, url: str, key: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._http = httpx.AsyncClient(**settings(url, key, timeout_s))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def create_avatar(
        self,
        pictures: Sequence[Path],
        *,
        consent: str | None = None,
        face: str | None = None,
        webhook: str | None = None,
        idempotency_key: str | None = None,
    ) -> JobView:
        """See `Client.create_avatar`."""
        return await self._send(Calls.create_avatar(pictures, consent, face, webhook, idempotency_key))

    async def create_driver(self, driver: Path, *, name: str | None = None) -> DriverView:
        """See `Client.create_driver`."""
        return await self._send(Calls.create_driver(driver, name))

    async def create_video(
        self,
        avatar_id: str,
        *,
        driver: Path | None = None,
        driver_id: str | None = None,
        key_frames: Sequence[Mapping[str, float | str]] | None = None,
        options: VideoOptions | None = None,
        webhook: str | None = None,
        idempotency_key: str | None = None,
    ) -> JobView:
        """See `Client.create_video`."""
        return await self._send(
            Calls.create_video(avatar_id, driver, driver_id, key_frames, options, webhook, idempotency_key)
        )

    async def job(self, job_id: str) -> JobView:
        """See `Client.job`."""
        return await self._send(Calls.job(job_id))

    async def jobs(
        self, *, state: PublicState | None = None, kind: JobKind | None = None, avatar_id: str | None = None
    ) -> AsyncIterator[JobView]:
        """See `Client.jobs`."""
        cursor: str | None = None
        while True:
            page = await self._send(Calls.jobs(state, kind, avatar_id, cursor))
            for job in page.jobs:
                yield job
            if (cursor := page.next) is None:
                return

    async def avatars(self) -> AsyncIterator[AvatarView]:
        """See `Client.avatars`."""
        cursor: str | None = None
        while True:
            page = await self._send(Calls.avatars(cursor))
            for avatar in page.avatars:
                yield avatar
            if (cursor := page.next) is None:
                return

    async def avatar(self, avatar_id: str) -> AvatarView:
        """See `Client.avatar`."""
        return await self._send(Calls.avatar(avatar_id))

    async def drivers(self) -> Sequence[DriverView]:
        """See `Client.drivers`."""
        return (await self._send(Calls.drivers())).drivers

    async def wait(
        self, job_id: str, *, timeout_s: float = float("inf"), on_progress: Callable[[JobView], None] | None = None
    ) -> JobView:
        """See `Client.wait`."""
        deadline = time.monotonic() + timeout_s
        while True:
            job = await self.job(job_id)
            if on_progress is not None:
                on_progress(job)
            if ended(job, deadline):
                return job
            await asyncio.sleep(POLL_S)

    async def download(self, job_id: str, out: Path, *, file: str = "video") -> None:
        """See `Client.download`."""
        async with self._http.stream("GET", f"/v1/jobs/{job_id}/result", params={"file": file}) as reply:
            if reply.is_error:
                await reply.aread()
            check(reply)
            with out.open("wb") as sink:
                async for block in reply.aiter_bytes():
                    sink.write(block)

    async def cancel(self, job_id: str) -> JobView:
        """See `Client.cancel`."""
        return await self._send(Calls.job(job_id, "/cancel"))

    async def retry(self, job_id: str) -> JobView:
        """See `Client.retry`."""
        return await self._send(Calls.job(job_id, "/retry"))

    async def delete_job(self, job_id: str) -> None:
        """See `Client.delete_job`."""
        await self._send(Calls.delete(f"/v1/jobs/{job_id}"))

    async def delete_avatar(self, avatar_id: str) -> None:
        """See `Client.delete_avatar`."""
        await self._send(Calls.delete(f"/v1/avatars/{avatar_id}"))

    async def delete_driver(self, driver_id: str) -> None:
        """See `Client.delete_driver`."""
        await self._send(Calls.delete(f"/v1/drivers/{driver_id}"))

    async def _send(self, call: Call[_T]) -> _T:
        with ExitStack() as files:
            arguments = await asyncio.to_thread(call.arguments, files)
            reply = await self._http.request(call.method, call.path, **arguments)
        check(reply)
        return call.read(reply.content)
