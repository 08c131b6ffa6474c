"""ASGI middleware that limits request bodies while they stream in, and how many do so at once.

Only uploads (requests with a body) are counted: reads, cancellation and health never wait for them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from serving.service.config import MIB, UploadLimits
from serving.service.errors import QueueFull, TooLarge, UploadTimeout
from serving.service.http.problems import answer

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_DISCARD_S = 5.0  # for how long the rest of a refused body is read, so that the client comes to read the answer


class LimitBodies:
    """Limits the size, the pauses, the rate and the number of request bodies.

    `receive` raises TooLarge or UploadTimeout. It does not rely on Content-Length, which chunked requests lack.
    """

    def __init__(self, app: AsgiApp, limits: UploadLimits) -> None:
        self._app, self._limits = app, limits
        self._num_uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            await self._app(scope, receive, send)
            return
        body = _Body(receive, self._limits)
        if self._num_uploads >= self._limits.max_uploads:
            refused = QueueFull(f"{self._num_uploads} uploads are in progress already", retry_after_s=5)
            await (await answer(None, refused))(scope, body.receive, send)  # type: ignore[arg-type]
            await body.discard()
            return
        self._num_uploads += 1
        try:
            await self._app(scope, body.receive, send)
        finally:
            self._num_uploads -= 1
        await body.discard()


class _Body:
    """A request's body, counted and timed."""

    def __init__(self, receive: Receive, limits: UploadLimits) -> None:
        self._receive, self._limits = receive, limits
        self._num_bytes, self._more = 0, True
        self._started = time.monotonic()

    async def receive(self) -> Message:
        if not self._more:  # after the body, it waits for the client to disconnect
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._limits.idle_timeout_s)
        except TimeoutError:
            raise UploadTimeout(f"nothing arrived for {self._limits.idle_timeout_s:g} s") from None
        self._count(message)
        check_body_size(self._num_bytes, self._limits)
        seconds = time.monotonic() - self._started
        if self._more and seconds > self._limits.idle_timeout_s and self._num_bytes < seconds * self._limits.min_rate:
            raise UploadTimeout(f"the upload is slower than {self._limits.min_rate} bytes/s")
        return message

    async def discard(self) -> None:
        """Read and drop what is left of a refused body, within limits: a client that still sends sees no answer."""
        deadline, most = time.monotonic() + _DISCARD_S, self._num_bytes + self._limits.max_body
        with suppress(TimeoutError):
            while self._more and self._num_bytes < most and (left_s := deadline - time.monotonic()) > 0:
                self._count(await asyncio.wait_for(self._receive(), left_s))

    def _count(self, message: Message) -> None:
        if message["type"] != "http.request":
            self._more = False
            return
        self._num_bytes += len(message.get("body", b""))
        self._more = bool(message.get("more_body", False))


def check_body_size(num_bytes: int, limits: UploadLimits) -> None:
    """Raise TooLarge when a body of `num_bytes` exceeds the limit."""
    if num_bytes > limits.max_body:
        raise TooLarge(f"the request is larger than {limits.max_body / MIB:.4g} MiB")
