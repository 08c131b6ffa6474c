"""Webhooks: who may be told, what is sent, and that it is sent again until it is answered."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from serving.service.config import QueueRules
from serving.service.errors import BadInput
from serving.service.state.database import Database
from serving.service.state.job_queue import JobQueue
from serving.service.state.requests import AvatarRequest
from serving.service.state.webhooks import Webhooks
from serving.service.webhooks import SECRET_VARIABLE, WebhookSender, check_webhook, read_secret

SECRET = "a-secret-of-more-than-24-characters"
ID = "1" * 32


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://evil.example/x", "sends none to that host"),
        ("https://studio.example.evil.example/x", "sends none to that host"),
        ("http://studio.example/x", "an https URL is needed"),
        ("file://studio.example/etc/passwd", "an https URL is needed"),
        ("https://user:secret@studio.example/x", "without a user name"),
        ("https://studio.example/" + "x" * 2000, "at most 2000 characters"),
        ("https://[::1", "Invalid IPv6 URL"),
        ("https://studio.example:99999/x", "Port out of range"),
        ("http://169.254.169.254/latest/meta-data", "sends none to that host"),
        ("", "sends none to that host"),
    ],
)
def test_only_allowed_hosts_are_told(url: str, reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        check_webhook(url, ("studio.example",))


def test_a_url_of_an_allowed_host_passes() -> None:
    assert check_webhook("https://studio.example/done?x=1", ("studio.example",)) == "https://studio.example/done?x=1"
    assert check_webhook("http://127.0.0.1:9/done", ("127.0.0.1",)) == "http://127.0.0.1:9/done"


def test_webhooks_need_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, "short")
    assert read_secret(()) == "short"
    with pytest.raises(ValueError, match="webhooks are signed: set SFUMATO_WEBHOOK_SECRET to at least 24 characters"):
        read_secret(("studio.example",))
    monkeypatch.setenv(SECRET_VARIABLE, SECRET)
    assert read_secret(("studio.example",)) == SECRET


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[tuple[Any, bytes]], list[int]]]:
    """A server: its URL, the requests that it got, and the statuses that it answers with, the last for ever."""
    got: list[tuple[Any, bytes]] = []
    statuses = [200]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.headers, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/done", got, statuses
        server.shutdown()


def queue_with_job(tmp_path: Path, clock: Clock, url: str) -> tuple[JobQueue, Webhooks]:
    database = Database(f"sqlite:///{tmp_path}/jobs.sqlite3")
    jobs = JobQueue(database, QueueRules(), clock)
    jobs.reserve(ID, "2" * 32, "avatar")
    jobs.submit(ID, AvatarRequest(("picture-01.jpg",)), webhook=url)
    return jobs, Webhooks(database, clock)


def test_an_ended_job_is_told_once_with_a_signature(tmp_path: Path, receiver: Any) -> None:
    url, got, _ = receiver
    clock = Clock()
    jobs, webhooks = queue_with_job(tmp_path, clock, url)
    sender = WebhookSender(webhooks, SECRET)
    sender.send_due()
    assert not got, "the job still waits"
    job = jobs.claim("avatar", "test")
    assert job is not None
    jobs.finish(job, {"num_steps": 40})
    sender.send_due()
    clock.now += 1000
    sender.send_due()
    ((headers, body),) = got
    told = json.loads(body)
    assert (told["id"], told["state"], told["facts"]) == (ID, "done", {"num_steps": 40})
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_an_unanswered_webhook_is_sent_again_with_growing_pauses_and_given_up(tmp_path: Path, receiver: Any) -> None:
    url, got, statuses = receiver
    statuses[:] = [500, 302, 404]
    clock = Clock()
    jobs, webhooks = queue_with_job(tmp_path, clock, url)
    jobs.cancel(ID)
    sender = WebhookSender(webhooks, SECRET)
    sent_at = []
    for second in range(0, 2000, 5):
        clock.now = 1000.0 + second
        before = len(got)
        sender.send_due()
        sent_at += [second] * (len(got) - before)
    assert sent_at == [0, 5, 15, 35, 75, 155, 315, 635]


def test_two_front_ends_do_not_tell_twice(tmp_path: Path, receiver: Any) -> None:
    url, _, _ = receiver
    jobs, webhooks = queue_with_job(tmp_path, Clock(), url)
    jobs.cancel(ID)
    assert [delivery.url for delivery in webhooks.take()] == [url]
    assert not webhooks.take()
