"""Uploads through the routes: limits while they stream in, and checks of what they hold."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
from PIL import Image

from pipelines.media.decoder.process import Decoder, Limits
from serving.service.config import UploadLimits
from serving.service.http import uploads
from serving.service.http.api import create_api


def picture(size: tuple[int, int] = (8, 8), format: str = "PNG") -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", size, (200, 100, 50)).save(sink, format)
    return sink.getvalue()


def files(*contents: bytes, field: str = "pictures") -> list[tuple[str, tuple[str, bytes]]]:
    return [(field, ("me.png", content)) for content in contents]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "picture 1 is empty"),
        (b"not a picture", "picture 1 is not a JPEG"),
        (picture((64, 64), "JPEG")[:300], "picture 1 is a broken picture"),
    ],
)
def test_what_is_no_picture_is_422_with_the_reason_and_leaves_nothing(
    client: Any, refusal: Any, content: bytes, reason: str
) -> None:
    status, code, message = refusal(client.post_avatar(content, name="me.jpg"))
    assert (status, code) == (422, "bad_input")
    assert message.startswith(reason)
    assert str(client.service.store.root) not in message
    assert not client.uploads


def test_a_text_named_mp4_is_422_with_the_reason(client: Any, refusal: Any) -> None:
    status, _, message = refusal(client.post_driver(client.ready_avatar(), b"hello"))
    assert status == 422
    assert message.startswith("driver")
    assert str(client.service.store.root) not in message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"json": {"pictures": []}}, 415),
        ({"content": b""}, 415),
        ({"content": b"junk", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 400),
        ({"data": {"consent": "yes"}, "files": files(b"x", field="unknown")}, 422),
        ({"files": {"pictures": (None, "a text")}}, 422),
        ({"files": files(*[picture()] * 4)}, 413),
        ({"files": files(*[picture()] * 50)}, 413),
        ({"files": files(picture()), "data": {f"f{n}": "" for n in range(50)}}, 413),
        ({"files": files(picture()), "data": {"consent": "x" * 300}}, 413),
        ({"files": files(picture() + bytes(60_000))}, 413),
        ({"files": files(bytes(300_000))}, 413),
    ],
)
def test_malformed_and_oversized_requests_are_refused(client: Any, more: dict[str, Any], status: int) -> None:
    response = client.call("POST", "/v1/avatars", **more)
    assert response.status_code == status, response.text
    assert response.json()["detail"]
    assert not client.uploads


def test_a_body_without_length_is_refused_while_it_streams(client: Any, refusal: Any) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="pictures"; filename="a.png"\r\n\r\n'
        while True:
            sent += 50_000
            yield bytes(50_000)

    response = client.call(
        "POST",
        "/v1/avatars",
        content=endless(),
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert refusal(response)[:2] == (413, "too_large")
    assert sent <= 2 * client.service.limits.max_body + 100_000, "the rest is read to deliver the answer, within limits"


@pytest.mark.slow
def test_a_client_that_stops_sending_is_408(client: Any) -> None:
    api = create_api(dataclasses.replace(client.service, limits=UploadLimits(idle_timeout_s=0.05)))
    status, body = asyncio.run(_post_slowly(api))
    assert status == 408
    assert b"nothing arrived for 0.05 s" in body


async def _post_slowly(api: Callable[..., Awaitable[None]]) -> tuple[int, bytes]:
    sent: list[Mapping[str, Any]] = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/avatars",
        "query_string": b"",
        "headers": [
            (b"content-type", b"multipart/form-data; boundary=x"),
            (b"host", b"localhost"),
            (b"authorization", b"Bearer an-api-key-of-some-length"),
        ],
    }

    async def receive() -> Mapping[str, Any]:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    await api(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


@pytest.mark.slow
def test_pictures_are_decoded_in_a_process_that_may_hang(
    monkeypatch: pytest.MonkeyPatch, client: Any, refusal: Any
) -> None:
    with Decoder(Limits(stall_s=1.0)) as decoder:
        monkeypatch.setattr(uploads, "_shared_decoder", decoder)
        assert client.post_avatar(picture((9, 8))).status_code == 202
        child = decoder._child
        assert child is not None
        child.send_signal(signal.SIGSTOP)
        assert refusal(client.post_avatar(picture()))[1:] == (
            "bad_input",
            "picture 1: the decoder took longer than 1 s",
        )
        assert len(client.uploads) == 1
        assert client.post_avatar(picture()).status_code == 202
