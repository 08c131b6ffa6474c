"""Requests 50 to 62 and faults 84 to 87 of the list of bad inputs, by number; what other tests show is named there."""

from __future__ import annotations

import ast
import dataclasses
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

import serving
from serving.service.http.service import Service
from serving.service.state.requests import VideoRequest

pytestmark = pytest.mark.slow

_FORM = {"Content-Type": "multipart/form-data; boundary=x"}


def zipped() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        file.writestr("../../etc/cron.d/x", "x")
    return sink.getvalue()


# 51 (1 GB), 53 (slow, gone) and 55 (200 at once): test_server; 54: test_job_queue; 59: test_faults.
_REQUESTS: list[tuple[str, dict[str, Any], int, str]] = [
    ("50 no body", {}, 415, "send the files as multipart/form-data"),
    ("50 wrong type", {"json": {"pictures": []}}, 415, "send the files as multipart/form-data"),
    ("50 no form", {"content": b"junk", "headers": _FORM}, 400, ""),
    ("51 too large", {"files": {"pictures": bytes(300_000)}}, 413, "the request is larger than 0.1907 MiB"),
    ("52 fields", {"files": {"pictures": b"x"}, "data": {f"f{n}": "" for n in range(900)}}, 413, "Too many fields"),
    ("56 absolute name", {"files": {"pictures": ("/etc/passwd", b"x")}}, 422, "picture 1 is not a "),
    ("56 dots in a field", {"files": {"../pictures": ("x.png", b"x")}}, 422, "unknown field"),
    ("57 a URL", {"files": {"pictures": (None, "http://169.254.169.254/")}}, 422, "must hold a file"),
    ("57 a file URL", {"files": {"pictures": ("a.jpg", b"file:///etc/passwd")}}, 422, "picture 1 is not a "),
    ("58 zip", {"files": {"pictures": ("a.zip", zipped())}}, 422, "picture 1 is not a "),
    ("62 wrong key", {"key": "an-api-key-of-another-length"}, 401, "missing or wrong API key"),
    ("62 no key", {"key": None}, 401, "missing or wrong API key"),
]


@pytest.mark.parametrize(
    ("more", "status", "reason"), [row[1:] for row in _REQUESTS], ids=[row[0] for row in _REQUESTS]
)
def test_bad_requests_are_refused_and_leave_nothing(
    client: Any, refusal: Any, more: dict[str, Any], status: int, reason: str
) -> None:
    told = refusal(client.call("POST", "/v1/avatars", **more))
    assert told[0] == status
    assert reason in told[2]
    assert not client.uploads
    assert client.post_avatar().status_code == 202, "the service goes on"


@pytest.mark.parametrize("driver_id", ["file:///etc/passwd", "http://localhost/", "../../etc/passwd", "builtin:../x"])
def test_57_a_driver_is_named_by_its_id_and_never_fetched(client: Any, refusal: Any, driver_id: str) -> None:
    path = f"/v1/avatars/{client.ready_avatar()}/videos"
    assert refusal(client.call("POST", path, json={"driver_id": driver_id}))[:2] == (404, "not_found")


def test_57_nothing_but_webhooks_sends_requests() -> None:
    """Clients name no addresses to read from; those that are told of ended jobs are allowed by the configuration."""
    root = Path(serving.__file__).parent
    senders = {"httpx", "requests", "urllib.request", "urllib3", "aiohttp", "http.client"}
    sending = set()
    for path in (root / "service").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if senders & set(names):
                sending.add(path.name)
    assert sending == {"webhooks.py"}


def test_58_zips_are_no_drivers_either(client: Any, refusal: Any) -> None:
    status, _, reason = refusal(client.post_driver(client.ready_avatar(), zipped()))
    assert status == 422
    assert reason.startswith("driver is not a readable video")


def test_61_pages_of_other_hosts_get_no_permission_to_read(client: Any, service: Service, refusal: Any) -> None:
    local = dataclasses.replace(service.access, open=True, api_key=None, allowed_hosts=("localhost",))
    client.service = dataclasses.replace(service, access=local)
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
        for method in ("GET", "POST", "DELETE"):
            assert refusal(client.call(method, f"/v1/jobs/{'0' * 32}", headers=headers))[0] in (403, 405)
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    reply = client.call("OPTIONS", "/v1/avatars", headers=asked)
    assert not [name for name in reply.headers if name.startswith("access-control-")]


def test_60_84_a_video_that_its_worker_loses_is_rendered_once_more(client: Any, service: Service, video: bytes) -> None:
    """A killed worker's lease is over: the next has the job. Freed processes: test_process; real replicas: test_app."""
    job_id = client.post_driver(client.ready_avatar(), video).json()["id"]
    lost = service.jobs.claim("video", "killed")
    assert lost is not None
    service.jobs._now = lambda: lost.created_at + 3600.0
    found = service.jobs.claim("video", "next")
    assert found is not None
    assert (found.id, found.attempts, found.request) == (job_id, 2, VideoRequest("driver.mp4"))
    assert not service.jobs.finish(lost, {"frames": 1}), "85: a worker that comes back late settles nothing"
    assert service.jobs.finish(found, {"frames": 3})
