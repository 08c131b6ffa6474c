"""Metrics of a running command for Prometheus, over HTTP (`--metrics-address`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_LOOPBACK = "127.0.0.1"
_MAX_PORT = 65535


class _Collector:
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self.collect = collect


@contextlib.contextmanager
def metrics_endpoint(address: str | None, collect: Callable[[], Iterable[Metric]]) -> Iterator[None]:
    """Answer HTTP requests with the metrics of `collect` while the block lasts; with None as the address, do nothing.

    Args:
        address: PORT of loopback, or HOST:PORT.
        collect: returns the metrics now; called by another thread, once a request.

    Raises:
        ValueError: it is no such address, or nothing can listen there.
    """
    if address is None:
        yield
        return
    from prometheus_client import CollectorRegistry, start_http_server

    host, port = parse_address(address)
    registry = CollectorRegistry()
    registry.register(_Collector(collect))
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ValueError(f"--metrics-address: cannot listen on {host}:{port}: {error.strerror or error}") from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def parse_address(address: str) -> tuple[str, int]:
    """Return host and port of PORT, HOST:PORT or [HOST]:PORT. Raises ValueError."""
    host, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= _MAX_PORT):
        raise ValueError(f"--metrics-address is PORT or HOST:PORT, such as 9400 or 0.0.0.0:9400, not {address!r}")
    return host.removeprefix("[").removesuffix("]") or _LOOPBACK, int(port)
