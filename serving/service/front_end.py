"""The HTTP front end: a web server in a process of its own, which is a replica of Ray Serve or a child of the process
that runs the service on one machine (`python -m serving.service.front_end`).

Uploads go past Serve's proxy, which holds whole bodies in memory. The port is opened with SO_REUSEPORT: several front
ends of a machine share it, and a new one takes over while an old one still receives its last uploads.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
import time

import uvicorn

from pipelines import log_lines
from pipelines.parent_process import die_with_parent
from serving.service.config import ServiceConfig, parse_config
from serving.service.housekeeping import Housekeeping
from serving.service.http.api import create_api
from serving.service.http.service import Service
from serving.service.state.database import Database
from serving.service.state.webhooks import Webhooks
from serving.service.webhooks import WebhookSender, read_secret
from serving.service.work.stills import StillPool, StillProcess

log = logging.getLogger(__name__)

_START_S = 20.0
_KEEP_ALIVE_S = 30
_BACKLOG = 1024


class FrontEnd:
    """Answers HTTP requests at the configuration's host and port."""

    def __init__(self, config: ServiceConfig, *_workers: object) -> None:
        """Takes the workers' handles only so that Serve starts them; they take their jobs from the queue.

        Raises:
            OSError: the address cannot be listened on.
        """
        log_lines.install("serve")
        self._stills = StillPool(lambda: StillProcess(config), config.num_stills) if config.num_stills else None
        service = Service.create(config, self._stills.draw if self._stills else None)
        self._housekeeping = Housekeeping(service.jobs, service.drivers, service.store)
        self._webhooks = WebhookSender(Webhooks(Database(config.database_url)), read_secret(config.webhook_hosts))
        self._drain_s = config.drain_s
        self._socket = listen(config.host, config.port)
        self._server = uvicorn.Server(
            uvicorn.Config(
                create_api(service),
                log_config=None,
                log_level="warning",
                access_log=False,  # RequestLog writes them
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
        if self._stills:
            self._stills.start()

    def pid(self) -> int:
        """Return the process's id."""
        return os.getpid()

    @property
    def alive(self) -> bool:
        """Whether the web server runs."""
        return self._thread.is_alive()

    def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        if not self.alive:
            raise RuntimeError("the web server has ended")

    def __del__(self) -> None:
        if hasattr(self, "_thread"):  # missing when the constructor raised
            self.close()

    def close(self) -> None:
        """Answer the requests that are there, then end."""
        if self._stills:
            self._stills.close()
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


def main() -> None:
    """Serve the configuration on the first line of standard input until that ends, or at SIGTERM."""
    die_with_parent()
    ended = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    signal.signal(signal.SIGTERM, lambda _number, _frame: ended.set())
    log_lines.install("serve")
    config = parse_config(json.loads(sys.stdin.readline() or "{}"))
    try:
        serving = FrontEnd(config)
    except Exception as error:
        log.exception("the front end does not start")
        print(json.dumps({"failed": f"{error}"}), flush=True)  # noqa: T201 - for the parent
        raise SystemExit(1) from None
    print(json.dumps({"ready": serving.pid()}), flush=True)  # noqa: T201 - for the parent
    threading.Thread(target=_end_with_input, args=(ended,), daemon=True).start()
    while serving.alive and not ended.wait(1.0):
        pass
    serving.close()
    os._exit(0 if ended.is_set() else 1)  # a job's thread or a client's connection must not hold it


def _end_with_input(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


if __name__ == "__main__":
    main()
