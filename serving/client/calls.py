"""Requests and answers, which the two clients send in their own ways."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import httpx

from serving.bodies import (
    AvatarPage,
    AvatarView,
    DriverList,
    DriverView,
    JobKind,
    JobPage,
    JobView,
    Problem,
    PublicState,
    VideoOptions,
)

_T = TypeVar("_T")
TIMEOUT_S = 60.0
POLL_S = 0.5
_ENDED = ("done", "failed", "cancelled")


class ServiceError(ValueError):
    """The service refused a request; `problem` says why."""

    def __init__(self, problem: Problem, retry_after_s: float | None) -> None:
        super().__init__(f"the service answered {problem.status}: {problem.detail}")
        self.problem = problem
        self.retry_after_s = retry_after_s
        """When to try again, if the service says so."""


class JobFailed(ValueError):
    """A job has failed or was cancelled."""

    def __init__(self, job: JobView) -> None:
        super().__init__(f"the {job.kind} job is {job.state}: {job.error}")
        self.job = job


@dataclass(frozen=True)
class Call(Generic[_T]):
    """A request, and what its answer becomes."""

    method: str
    path: str
    read: Callable[[bytes], _T]
    parts: Sequence[tuple[str, Path]] = ()
    """Files of a form, by field."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Texts of a form."""
    query: Mapping[str, str | int] = field(default_factory=dict)
    body: object = None
    """A body of JSON."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def arguments(self, files: ExitStack) -> dict[str, Any]:
        """Return the arguments of httpx; its files are open until `files` ends."""
        more: dict[str, Any] = {}
        if self.parts or self.texts:
            opened = [(name, (path.name, files.enter_context(path.open("rb")))) for name, path in self.parts]
            # As files without names, so that a form without a file is sent as multipart, too.
            texts = [(name, (None, text.encode())) for name, text in self.texts.items()]
            more["files"] = [*opened, *texts]
        if self.body is not None:
            more["json"] = self.body
        return {"params": dict(self.query), "headers": dict(self.headers), **more}


def _nothing(_content: bytes) -> None:
    return None


class Calls:
    """The requests of both clients, one for each method."""

    @staticmethod
    def create_avatar(
        pictures: Sequence[Path],
        consent: str | None,
        face: str | None,
        webhook: str | None,
        idempotency_key: str | None,
    ) -> Call[JobView]:
        given = (("consent", consent), ("face", face), ("webhook", webhook))
        texts = {name: text for name, text in given if text is not None}
        parts = [("pictures", picture) for picture in pictures]
        return Call("POST", "/v1/avatars", _job, parts, texts, headers=_idempotent(idempotency_key))

    @staticmethod
    def create_driver(driver: Path, name: str | None) -> Call[DriverView]:
        texts = {} if name is None else {"name": name}
        return Call("POST", "/v1/drivers", DriverView.model_validate_json, [("driver", driver)], texts)

    @staticmethod
    def create_video(
        avatar_id: str,
        driver: Path | None,
        driver_id: str | None,
        key_frames: Sequence[Mapping[str, float | str]] | None,
        options: VideoOptions | None,
        webhook: str | None,
        idempotency_key: str | None,
    ) -> Call[JobView]:
        if sum(one is not None for one in (driver, driver_id, key_frames)) != 1:
            raise ValueError("give one of driver, driver_id and key_frames")
        path, headers = f"/v1/avatars/{avatar_id}/videos", _idempotent(idempotency_key)
        chosen = {} if options is None else dataclasses.asdict(options)
        if driver is not None:
            texts = {"options": json.dumps(chosen), **({} if webhook is None else {"webhook": webhook})}
            return Call("POST", path, _job, [("driver", driver)], texts, headers=headers)
        body: dict[str, object] = {"options": chosen, "webhook": webhook}
        if driver_id is not None:
            body["driver_id"] = driver_id
        else:
            body["key_frames"] = {"keys": list(key_frames or ())}
        return Call("POST", path, _job, body=body, headers=headers)

    @staticmethod
    def jobs(
        state: PublicState | None, kind: JobKind | None, avatar_id: str | None, cursor: str | None
    ) -> Call[JobPage]:
        asked = {"state": state, "kind": kind, "avatar_id": avatar_id, "cursor": cursor}
        query = {name: value for name, value in asked.items() if value is not None}
        return Call("GET", "/v1/jobs", JobPage.model_validate_json, query=query)

    @staticmethod
    def avatars(cursor: str | None) -> Call[AvatarPage]:
        query = {} if cursor is None else {"cursor": cursor}
        return Call("GET", "/v1/avatars", AvatarPage.model_validate_json, query=query)

    @staticmethod
    def avatar(avatar_id: str) -> Call[AvatarView]:
        return Call("GET", f"/v1/avatars/{avatar_id}", AvatarView.model_validate_json)

    @staticmethod
    def delete(path: str) -> Call[None]:
        return Call("DELETE", path, _nothing)

    @staticmethod
    def job(job_id: str, action: str = "") -> Call[JobView]:
        return Call("POST" if action else "GET", f"/v1/jobs/{job_id}{action}", _job)

    @staticmethod
    def drivers() -> Call[DriverList]:
        return Call("GET", "/v1/drivers", DriverList.model_validate_json)


def _job(content: bytes) -> JobView:
    return JobView.model_validate_json(content)


def _idempotent(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Idempotency-Key": key}


def settings(url: str, key: str | None, timeout_s: float) -> dict[str, Any]:
    """Return the arguments of an httpx client."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return {"base_url": url, "headers": headers, "timeout": timeout_s}


def check(reply: httpx.Response) -> None:
    """Raise ServiceError for an answer that is a problem document; httpx's error for any other refusal."""
    if not reply.is_error:
        return
    if reply.headers.get("content-type", "").startswith("application/problem+json"):
        retry_after = reply.headers.get("retry-after", "")
        problem = Problem.model_validate_json(reply.content)
        raise ServiceError(problem, float(retry_after) if retry_after.isdecimal() else None)
    reply.raise_for_status()


def ended(job: JobView, deadline: float) -> bool:
    """Whether a job is done. Raises JobFailed and TimeoutError."""
    if job.state == "done":
        return True
    if job.state in _ENDED:
        raise JobFailed(job)
    if time.monotonic() > deadline:
        raise TimeoutError(f"job {job.id} is still {job.state}")
    return False
