"""Taking files from clients: bytes counted while they stream in, then checked for being what they claim to be."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, BinaryIO

from pipelines.media.images import read_image
from pipelines.media.video import probe
from serving.service.config import MIB, UploadLimits
from serving.service.errors import BadInput, TooLarge, UploadTimeout, public_reason

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
# Pure ASGI's own types, spelled out: this module needs no web framework.

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
_COPY_CHUNK = MIB


class LimitBody:
    """ASGI middleware that counts a request's bytes as they arrive, and waits for none for ever.

    The reader of the body gets TooLarge or UploadTimeout out of its own `receive`, so the rest of the body is never
    read, whatever Content-Length said (a chunked request has none).
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
            if not more:  # afterwards `receive` waits for the client to hang up, which may take long
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self._limits.idle_timeout_s)
            except TimeoutError:
                raise UploadTimeout(f"nothing arrived for {self._limits.idle_timeout_s:g} s") from None
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                more = bool(message.get("more_body", False))
            refuse_body(received, self._limits)
            return message

        return counted


def refuse_body(num_bytes: int, limits: UploadLimits) -> None:
    """Raise TooLarge when a body of so many bytes is over the limit."""
    if num_bytes > limits.max_body:
        raise TooLarge(f"the request is larger than {limits.max_body / MIB:.4g} MiB")


def save(source: BinaryIO, target: Path, *, max_bytes: int, what: str) -> str:
    """Copy an upload to `target`; returns its sha256.

    Raises:
        TooLarge: it has more than `max_bytes`.
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
    """The picture suffix of a client's file name, one of a fixed set, or none: all that is kept of the name."""
    ending = Path(client_name or "").suffix.lower()
    return ending if ending in _SUFFIXES else ""


def check_picture(path: Path, what: str) -> None:
    """Raise BadInput, naming `what` and the reason, unless the file is a picture that can be read."""
    try:
        read_image(path)
    except ValueError as error:
        raise BadInput(_reason(error, path, what)) from error


def check_video(path: Path, what: str) -> None:
    """Raise BadInput, naming `what` and the reason, unless the file has the header of a video. Decodes nothing."""
    try:
        probe(path)
    except ValueError as error:
        raise BadInput(_reason(error, path, what)) from error


def _reason(error: ValueError, path: Path, what: str) -> str:
    reason = public_reason(error, {str(path): what})
    return reason if what in reason else f"{what}: {reason}"
