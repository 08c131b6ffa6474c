"""A command's metrics over HTTP."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from prometheus_client.core import GaugeMetricFamily, Metric
from web.front_end_process import free_port
from web.scraping import read

from pipelines.metrics_endpoint import metrics_endpoint, parse_address


def test_metrics_are_those_of_the_moment_and_end_with_the_block() -> None:
    port, value = free_port(), 1.0

    def collect() -> Iterator[Metric]:
        yield GaugeMetricFamily("sfumato_x", "Of a test", value=value)

    with metrics_endpoint(str(port), collect):
        assert read(f"127.0.0.1:{port}") == {("sfumato_x",): 1.0}
        value = 2.0
        assert read(f"127.0.0.1:{port}") == {("sfumato_x",): 2.0}
    with pytest.raises(OSError, match="refused"):
        read(f"127.0.0.1:{port}")
    with metrics_endpoint(str(port), collect):  # at once again
        pass


def test_without_an_address_nothing_listens() -> None:
    with metrics_endpoint(None, lambda: pytest.fail("nobody asks")):
        pass


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ValueError, match=f"--metrics-address: cannot listen on 127.0.0.1:{port}: Address already"),
            metrics_endpoint(f"127.0.0.1:{port}", list),
        ):
            pytest.fail("it listens")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("9400", ("127.0.0.1", 9400)),
        (":9400", ("127.0.0.1", 9400)),
        ("0.0.0.0:9400", ("0.0.0.0", 9400)),
        ("[::1]:9400", ("::1", 9400)),
        ("head:1", ("head", 1)),
    ],
)
def test_a_port_alone_is_on_loopback(address: str, expected: tuple[str, int]) -> None:
    assert parse_address(address) == expected


@pytest.mark.parametrize("address", ["", "x", "0", "65536", "host:", "host:http", "-1", "1.5", "²"])
def test_a_wrong_address_is_named(address: str) -> None:
    with pytest.raises(ValueError, match=f"--metrics-address is PORT or HOST:PORT.*not '{address}'"):
        parse_address(address)
