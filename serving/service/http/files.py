"""Send files of the store, whole or in ranges, from a local disk or an object store."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request, Response
from starlette.responses import FileResponse, StreamingResponse

from pipelines import storage
from serving.service.config import MIB
from serving.service.errors import NotFound
from serving.service.http.service import Service

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_GONE = "the file is no longer kept"


async def send_file(service: Service, request: Request, url: str, media_type: str, name: str) -> Response:
    """Return a response with the file at `url`. Raises NotFound when it is gone."""
    if storage.is_local(url):
        path = storage.local_path(url)
        if not path.is_file():
            raise NotFound(_GONE)
        return FileResponse(path, media_type=media_type, filename=name)
    found = await service.reading(storage.look_up, url)
    if found is None or found.num_bytes is None:
        raise NotFound(_GONE)
    headers = {"Accept-Ranges": "bytes", "Content-Disposition": f'attachment; filename="{name}"'}
    span = _span(request.headers.get("range"), found.num_bytes)
    if span is None:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{found.num_bytes}"})
    first, last = span
    partial = "range" in request.headers
    if partial:
        headers["Content-Range"] = f"bytes {first}-{last}/{found.num_bytes}"
    headers["Content-Length"] = str(last - first + 1)
    if request.method == "HEAD":
        return Response(status_code=206 if partial else 200, headers=headers, media_type=media_type)
    return StreamingResponse(_blocks(service, url, first, last), 206 if partial else 200, headers, media_type)


async def _blocks(service: Service, url: str, first: int, last: int) -> AsyncIterator[bytes]:
    source: Any = await service.reading(storage.open, url)
    try:
        await service.reading(source.seek, first)
        left = last - first + 1
        while left > 0:
            block: bytes = await service.reading(source.read, min(MIB, left))
            if not block:
                return
            left -= len(block)
            yield block
    finally:
        await service.reading(source.close)


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first and the last byte that a Range header asks for; all for none, or for several; None: no bytes."""
    match = _RANGE.fullmatch((header or "").strip())
    if match is None or not any(match.groups()):
        return 0, size - 1
    first, last = match.groups()
    if not first:
        start, end = max(size - int(last), 0), size - 1
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
    return (start, end) if start <= end else None
