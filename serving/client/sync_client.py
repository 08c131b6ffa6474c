"""The client for programs that wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx

from serving.bodies import AvatarView, DriverView, JobKind, JobView, PublicState, VideoOptions
from serving.client.calls import POLL_S, TIMEOUT_S, Call, Calls, check, ended, settings

_T = TypeVar("_T")


class Client:
    """The service at `url`; a context manager.

    Args:
        key: an API key, if the service asks for one.
        timeout_s: longest time without an answer, seconds.
    """

    def __init__(self, url: str, key: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._http = httpx.Client(**settings(url, key, timeout_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._http.close()

    def create_avatar(
        self,
        pictures: Sequence[Path],
        *,
        consent: str | None = None,
        face: str | None = None,
        webhook: str | None = None,
        idempotency_key: str | None = None,
    ) -> JobView:
        """Upload pictures of one person; the job makes an avatar."""
        return self._send(Calls.create_avatar(pictures, consent, face, webhook, idempotency_key))

    def create_driver(self, driver: Path, *, name: str | None = None) -> DriverView:
        """Upload a driver for many videos."""
        return self._send(Calls.create_driver(driver, name))

    def create_video(
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
        """Render a ready avatar with an uploaded driver, a stored or built-in one, or key frames.

        Raises:
            ValueError: not exactly one of the three is given.
        """
        return self._send(
            Calls.create_video(avatar_id, driver, driver_id, key_frames, options, webhook, idempotency_key)
        )

    def job(self, job_id: str) -> JobView:
        """Return a job."""
        return self._send(Calls.job(job_id))

    def jobs(
        self, *, state: PublicState | None = None, kind: JobKind | None = None, avatar_id: str | None = None
    ) -> Iterator[JobView]:
        """Yield jobs, the newest first."""
        cursor: str | None = None
        while True:
            page = self._send(Calls.jobs(state, kind, avatar_id, cursor))
            yield from page.jobs
            if (cursor := page.next) is None:
                return

    def avatars(self) -> Iterator[AvatarView]:
        """Yield avatars, the newest first."""
        cursor: str | None = None
        while True:
            page = self._send(Calls.avatars(cursor))
            yield from page.avatars
            if (cursor := page.next) is None:
                return

    def avatar(self, avatar_id: str) -> AvatarView:
        """Return an avatar."""
        return self._send(Calls.avatar(avatar_id))

    def drivers(self) -> Sequence[DriverView]:
        """Return the built-in drivers and the stored ones."""
        return self._send(Calls.drivers()).drivers

    def wait(
        self, job_id: str, *, timeout_s: float = float("inf"), on_progress: Callable[[JobView], None] | None = None
    ) -> JobView:
        """Wait until a job is done and return it.

        Raises:
            JobFailed: it failed or was cancelled.
            TimeoutError: it takes longer than `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            job = self.job(job_id)
            if on_progress is not None:
                on_progress(job)
            if ended(job, deadline):
                return job
            time.sleep(POLL_S)

    def download(self, job_id: str, out: Path, *, file: str = "video") -> None:
        """Save the video of a job; `file` is "video" or "side-by-side"."""
        with self._http.stream("GET", f"/v1/jobs/{job_id}/result", params={"file": file}) as reply:
            if reply.is_error:
                reply.read()
            check(reply)
            with out.open("wb") as sink:
                for block in reply.iter_bytes():
                    sink.write(block)

    def cancel(self, job_id: str) -> JobView:
        """Cancel a waiting or running job."""
        return self._send(Calls.job(job_id, "/cancel"))

    def retry(self, job_id: str) -> JobView:
        """Queue a failed or cancelled job again."""
        return self._send(Calls.job(job_id, "/retry"))

    def delete_job(self, job_id: str) -> None:
        """Delete a job and its video."""
        self._send(Calls.delete(f"/v1/jobs/{job_id}"))

    def delete_avatar(self, avatar_id: str) -> None:
        """Delete an avatar and everything that was made of it."""
        self._send(Calls.delete(f"/v1/avatars/{avatar_id}"))

    def delete_driver(self, driver_id: str) -> None:
        """Delete a stored driver."""
        self._send(Calls.delete(f"/v1/drivers/{driver_id}"))

    def _send(self, call: Call[_T]) -> _T:
        with ExitStack() as files:
            reply = self._http.request(call.method, call.path, **call.arguments(files))
        check(reply)
        return call.read(reply.content)
