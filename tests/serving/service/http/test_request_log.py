"""Requests in the log, as objects with Google's field `httpRequest`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipelines.log_lines import messages_as


def test_each_request_is_an_object_without_its_query(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with messages_as("json", "serve"):
        client.call("GET", "/v1/jobs?state=failed&token=secret")
        client.call("GET", "/healthz")
        client.call("GET", "/-/healthz")
        client.call("GET", "/v1/jobs/none", key=None)
    listed, refused = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    request = listed["httpRequest"]
    assert (request["requestMethod"], request["requestUrl"], request["status"]) == ("GET", "/v1/jobs", 200)
    assert int(request["responseSize"]) > 0
    assert 0 <= float(request["latency"].removesuffix("s")) < 60
    assert (listed["severity"], listed["message"], listed["command"]) == ("INFO", "GET /v1/jobs 200", "serve")
    assert refused["httpRequest"]["status"] == 401
    assert "secret" not in json.dumps(listed)


def test_as_text_requests_are_not_logged(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    client.call("GET", "/v1/jobs")
    assert capsys.readouterr().err == ""
