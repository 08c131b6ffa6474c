"""Dataflow's service, played by a fake behind Google's own client classes: Beam's runner submits to it as it would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest


class FakeDataflow:
    """Keeps jobs by name as the service does: at most one of a name is active. `polled` is called by each question."""

    def __init__(self, api: Any) -> None:
        self.api = api
        self.jobs: list[Any] = []
        self.staged: dict[str, bytes] = {}
        self.errors: list[str] = []
        self.polled: Callable[[], None] = lambda: None
        self.refusal: Exception | None = None

    def end(self, state: str) -> None:
        """End the last job as `DONE`, `FAILED` or `CANCELLED`."""
        self.jobs[-1].current_state = self.api.JobState[f"JOB_STATE_{state}"]

    def create_job(self, request: Any) -> Any:
        if self.refusal is not None:
            raise self.refusal
        if going := self._active(request.job.name):
            return going[0]
        job = self.api.Job(request.job)
        job.id, job.current_state = f"job-{len(self.jobs)}", self.api.JobState.JOB_STATE_RUNNING
        self.jobs.append(job)
        return job

    def get_job(self, request: Any) -> Any:
        from google.api_core.exceptions import NotFound

        self.polled()
        found = [job for job in self.jobs if job.id == request.job_id]
        if not found:
            raise NotFound(f"no job {request.job_id}")
        return found[0]

    def stage_file(self, folder: str, name: str, stream: Any, *_: Any, **__: Any) -> None:
        self.staged[name] = stream.read()

    def list_jobs(self, request: Any) -> list[Any]:
        assert request.location == "r"
        return [job for job in self.jobs if job.current_state.name == "JOB_STATE_RUNNING"]

    def list_job_messages(self, request: Any) -> Iterator[Any]:
        return iter([SimpleNamespace(message_text=text) for text in self.errors])

    def _active(self, name: str) -> list[Any]:
        return [job for job in self.jobs if job.name == name and job.current_state.name == "JOB_STATE_RUNNING"]


@pytest.fixture
def dataflow(monkeypatch: pytest.MonkeyPatch) -> FakeDataflow:
    """The service, without a job."""
    from apache_beam.options.pipeline_options import GoogleCloudOptions
    from apache_beam.runners.dataflow.internal.apiclient import DataflowApplicationClient
    from apache_beam.utils.retry import Clock
    from google.cloud import dataflow as api

    from pipelines.preprocess.beam import dataflow as ours

    fake = FakeDataflow(api)
    for name in ("JobsV1Beta3Client", "MessagesV1Beta3Client", "MetricsV1Beta3Client"):
        monkeypatch.setattr(api, name, lambda **_: fake)
    # The bucket for staged files.
    monkeypatch.setattr(GoogleCloudOptions, "_warn_if_soft_delete_policy_enabled", lambda *_: None)
    monkeypatch.setattr(DataflowApplicationClient, "stage_file", fake.stage_file)
    monkeypatch.setattr(ours, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(Clock, "sleep", lambda *_: None)  # between Beam's own retries
    return fake
