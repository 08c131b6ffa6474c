"""The HTTP front end: a Serve replica with a web server of its own.

Uploads go past Serve's proxy, which holds whole bodies in memory. The port is opened with SO_REUSEPORT: several front
ends of a machine share it, and a new one takes over while an old one still receives its last uploads.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from typing import Any

import uvicorn

from serving.service.config import ServiceConfig
from serving.service.housekeeping import Housekeeping
from serving.service.http.api import create_api
from serving.service.http.service import Service
from serving.service.loopback import keep_serve_on_loopback
from serving.service.state.database import Database
from serving.service.state.webhooks import Webhooks
from serving.service.webhooks import WebhookSender, read_secret
from serving.service.work.stills import draw_through

log = logging.getLogger(__name__)

_START_S = 20.0
_KEEP_ALIVE_S = 30
_BACKLOG = 1024


class FrontEnd:
    """Answers HTTP requests at the configuration's host and port."""

    def __init__(self, config: ServiceConfig, stills: Any, *_workers: object) -> None:
        """Takes the workers' handles only so that Serve starts them; they take their jobs from the queue.

        Args:
            stills: handle of the deployment `stills`; None: no pictures are drawn.

        Raises:
            OSError: the address cannot be listened on.
        """
        if config.private:
            keep_serve_on_loopback()
        service = Service.create(config, None if stills is None else draw_through(stills))
        self._housekeeping = Housekeeping(service.jobs, service.drivers, service.store)
        self._webhooks = WebhookSender(Webhooks(Database(config.database_url)), read_secret(config.webhook_hosts))
        self._drain_s = config.drain_s
        self._socket = listen(config.host, config.port)
        self._server = uvicorn.Server(
            uvicorn.Config(
                create_api(service),
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=max(1, round(config.drain_s)),
                backlog=_BACKLOG,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="http", daemon=True
        )
        self._thread.start()
        self._housekeeping.start()
        if config.webhook_hosts:
            self._webhooks.start()
        deadline = time.monotonic() + _START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the web server does not start")
            time.sleep(0.02)

    def pid(self) -> int:
        """Return the process's id."""
        return os.getpid()

    def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        if not self._thread.is_alive():
            raise RuntimeError("the web server has ended")

    def __del__(self) -> None:
        if not hasattr(self, "_thread"):  # the constructor raised
            return
        self._housekeeping.stop()
        self._webhooks.stop()
        self._server.should_exit = True
        self._thread.join(self._drain_s + 2)


def listen(host: str, port: int) -> socket.socket:
    """Open a port that other processes of this user may share. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
    except BaseException:
        listener.close()
        raise
    return listener
