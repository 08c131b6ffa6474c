"""Metrics for Prometheus: the queue, ended jobs, their seconds by stage, failures by cause, use of devices."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from serving.service import errors
from serving.service.http.routes.common import Reader, ServiceOf, new_router
from serving.service.http.service import Service
from serving.service.state.requests import JobKind

router = new_router()
_KINDS: tuple[JobKind, ...] = ("avatar", "video")
_COUNTERS = {
    "jobs_ended": ("Jobs that have ended", ("kind", "state")),
    "job_failures": ("Failed jobs by cause: input, internal, stalled, crashed, lost", ("kind", "cause")),
    "job_stage_seconds": ("Seconds of jobs by stage", ("kind", "stage")),
    "device_seconds": ("Seconds of work by device", ("kind", "device")),
}


class _Collector:
    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily("sfumato_jobs_waiting", "Jobs that wait", labels=["kind"])
        running = GaugeMetricFamily("sfumato_jobs_running", "Jobs that run", labels=["kind"])
        oldest = GaugeMetricFamily(
            "sfumato_oldest_waiting_job_seconds", "Age of the job that has waited longest", labels=["kind"]
        )
        for kind in _KINDS:
            counts = self._service.jobs.counts(kind)
            waiting.add_metric([kind], counts.queued)
            running.add_metric([kind], counts.running)
            oldest.add_metric([kind], counts.oldest_s)
        yield from (waiting, running, oldest)
        values = self._service.jobs.counters()
        for counter, (help_text, labels) in _COUNTERS.items():
            family = CounterMetricFamily(f"sfumato_{counter}", help_text, labels=labels)
            for (name, label), value in sorted(values.items()):
                if name == counter:
                    family.add_metric(label.split("/"), value)
            yield family


@router.get("/metrics", response_class=Response)
async def metrics(service: ServiceOf, caller: Reader) -> Response:
    """Return metrics in Prometheus' text format. A key must be the service's own, or of scope admin."""
    if not caller.sees_all:
        raise errors.Forbidden("metrics are for keys of scope admin")
    registry = CollectorRegistry()
    registry.register(_Collector(service))
    return Response(await service.reading(generate_latest, registry), media_type=CONTENT_TYPE_LATEST)
