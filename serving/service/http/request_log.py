"""ASGI middleware that logs each request, for `--log-format json`; health checks are left out."""

from __future__ import annotations

import logging
import time

from pipelines import log_lines
from serving.service.http.limits import AsgiApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

_HEALTH = frozenset({"/healthz", "/-/healthz"})


class RequestLog:
    """Logs method, path, status, bytes and seconds once the response is sent, in the fields of Google's `httpRequest`.

    Queries are left out, and so is who asks. The status of a request that was broken off before its response is 499.
    """

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        log.setLevel(logging.INFO)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _HEALTH or log_lines.json_lines() is None:
            await self._app(scope, receive, send)
            return
        status, size, began = 499, 0, time.perf_counter()

        async def counted(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            request = {
                "requestMethod": scope["method"],
                "requestUrl": scope["path"],
                "status": status,
                "responseSize": str(size),
                "latency": f"{time.perf_counter() - began:.6f}s",
            }
            level = logging.ERROR if status >= 500 else logging.INFO
            log.log(level, "%s %s %d", scope["method"], scope["path"], status, extra={"httpRequest": request})
