"""Read a command's metrics while it runs, as Prometheus does."""

from __future__ import annotations

import contextlib
import threading
import urllib.request
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

Samples = Mapping[tuple[str, ...], float]


def samples(families: Iterable[Metric]) -> dict[tuple[str, ...], float]:
    """Return the values by name and labels: ("sfumato_x_total", "label=value")."""
    return {
        (sample.name, *(f"{label}={value}" for label, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def read(address: str) -> dict[tuple[str, ...], float]:
    """Return the samples that are at HOST:PORT now. Raises OSError."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        return samples(text_string_to_metric_families(answer.read().decode()))


@contextlib.contextmanager
def scraping(address: str) -> Iterator[dict[tuple[str, ...], float]]:
    """Read what is at HOST:PORT again and again while the block lasts; yield all samples, each as it was last seen."""
    seen: dict[tuple[str, ...], float] = {}
    over = threading.Event()

    def run() -> None:
        while not over.wait(0.02):
            with contextlib.suppress(OSError):
                seen.update(read(address))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
