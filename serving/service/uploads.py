"""Uploads: size limits while they stream in, then checks of their contents."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, BinaryIO

from pipelines.media.images import PICTURE_SUFFIXES, read_image
from pipelines.media.video import probe
from serving.service.config import MIB, UploadLimits
from serving.service.errors import BadInput, TooLarge, UploadTimeout, public_reason

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
# ASGI types, so that this module needs no web framework.

_COPY_CHUNK = MIB


class LimitBody:
    """ASGI middleware that limits the size of a request's body and the time between its parts.

    `receive` raises TooLarge or UploadTimeout, so the rest of the body is never read. It does not rely on
    Content-Length, which chunked requests lack.
    """

    def __init__(self, app: AsgiApp, limits: UploadLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            receive = self._counted(receive)
        await self._app(scope, receive, send)

    def _counted(self, receive: Receive) -> Receive:
        received = 0
        more = True

        async def counted() -> Message:
            nonlocal received, more
            if not more:  # after the body, `receive` waits for the client to disconnect
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self._limits.idle_timeout_s)
            except TimeoutError:
                raise UploadTimeout(f"nothing arrived for {self._limits.idle_timeout_s:g} s") from None
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                more = bool(message.get("more_body", False))
            check_body_size(received, self._limits)
            return message

        return counted


def check_body_size(num_bytes: int, limits: UploadLimits) -> None:
    """Raise TooLarge when a body of `num_bytes` exceeds the limit."""
    if num_bytes > limits.max_body:
        raise TooLarge(f"the request is larger than {limits.max_body / MIB:.4g} MiB")


def save(source: BinaryIO, target: Path, *, max_bytes: int, what: str) -> str:
    """Copy an upload to `target` and return its sha256.

    Raises:
        TooLarge: it exceeds `max_bytes`.
        BadInput: it is empty.
    """
    digest = hashlib.sha256()
    written = 0
    with target.open("wb") as sink:
        while chunk := source.read(_COPY_CHUNK):
            written += len(chunk)
            if written > max_bytes:
                raise TooLarge(f"{what} is larger than {max_bytes / MIB:.4g} MiB")
            digest.update(chunk)
            sink.write(chunk)
    if not written:
        raise BadInput(f"{what} is empty")
    return digest.hexdigest()


def suffix(client_name: str | None) -> str:
    """Return the suffix of a client's file name if it is a known picture suffix, else "". The rest is discarded."""
    ending = Path(client_name or "").suffix.lower()
    return ending if ending in PICTURE_SUFFIXES else ""


def check_picture(path: Path, what: str) -> None:
    """Raise BadInput, naming `what` and the reason, unless the file is a readable picture."""
    try:
        read_image(path)
    except ValueError as error:
        raise BadInput(_reason(error, path, what)) from error


def check_video(path: Path, what: str) -> None:
    """Raise BadInput, naming `what` and the reason, unless the file has a video's header. Decodes no frame."""
    try:
        probe(path)
    except ValueError as error:
        raise BadInput(_reason(error, path, what)) from error


def _reason(error: ValueError, path: Path, what: str) -> str:
    reason = public_reason(error, {str(path): what})
    return reason if what in reason else f"{what}: {reason}"
