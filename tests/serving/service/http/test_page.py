"""The page's files, its settings, and single pictures of an avatar."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from serving.service.errors import Unavailable
from serving.service.http.api import create_api
from serving.service.http.service import Service
from serving.service.page import FOLDER
from serving.service.state.requests import VideoOptions, VideoRequest

FIRST_VIEW_BYTES = 100_000
_REFERENCE = re.compile(r'(?:href|src)="(/static/[^"]+)"|from "(\./[^"]+)"')


def first_view() -> dict[str, bytes]:
    """The files that the browser loads for the page: those named by index.html, and what modules import."""
    found: dict[str, bytes] = {}
    waiting = ["index.html"]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = (FOLDER / name).read_bytes()
            waiting += [Path("".join(one)).name for one in _REFERENCE.findall(found[name].decode())]
    return found


def test_the_page_and_its_files_are_served_without_a_key_and_under_a_strict_policy(service: Service) -> None:
    kinds = {".html": "text/html", ".css": "text/css", ".js": "javascript", ".svg": "image/svg+xml"}
    paths = {"/": "text/html", **{f"/static/{file.name}": kinds[file.suffix] for file in FOLDER.iterdir()}}

    async def answers() -> dict[str, httpx.Response]:
        transport = httpx.ASGITransport(create_api(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.head("/")).status_code == 200
            return {path: await client.get(path) for path in paths}

    for path, response in asyncio.run(answers()).items():
        assert (response.status_code, paths[path] in response.headers["content-type"]) == (200, True), path
        policy = response.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert response.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["no.js", "../__init__.py", "..%2f__init__.py", "%2e%2e/%2e%2e/config.py"])
def test_nothing_but_the_page_is_served(client: Any, path: str) -> None:
    assert client.call("GET", f"/static/{path}", key=None).status_code == 404


def test_the_first_view_is_small_and_whole_and_needs_nobody_else() -> None:
    files = first_view()
    assert sum(map(len, files.values())) < FIRST_VIEW_BYTES
    assert set(files) == {file.name for file in FOLDER.iterdir()}, "a file that nothing names"
    for name, content in files.items():
        text = content.decode().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|(?<![:\w])//[a-z]", text), f"{name} has an address of another server"
        assert not re.search(r"\son\w+=|style=|javascript:|innerHTML|\beval\(", text), f"{name}: what the policy blocks"
    preloaded = re.findall(r'modulepreload" href="/static/([^"]+)', files["index.html"].decode())
    assert {*preloaded, "app.js"} == {name for name in files if name.endswith(".js")}


def test_the_settings_say_what_a_client_needs_to_know(client: Any, service: Service) -> None:
    told = client.call("GET", "/v1/settings", key=None).json()
    assert (told["needs_key"], told["require_consent"], told["draws_stills"]) == (True, False, False)
    assert (told["max_pictures"], told["max_picture_bytes"], told["max_body_bytes"]) == (3, 50_000, 200_000)
    assert client.call("GET", told["drivers_url"]).status_code == 200
    assert told["parts"] == ["lips", "eyes", "pose", "brows", "gaze"]
    sliders = {one["name"]: (one["lowest"], one["highest"]) for one in told["sliders"]}
    assert len(sliders) == 12
    assert (sliders["yaw"], sliders["aaa"], sliders["smile"]) == ((-40, 40), (0, 1), (-1, 1))
    assert next(one for one in told["sliders"] if one["name"] == "aaa")["meaning"] == (
        'Mouth in [0, 1]: 1 opens it as for "ah".'
    )
    access = dataclasses.replace(service.access, open=True, api_key=None)
    client.service = dataclasses.replace(service, access=access, require_consent=True)
    told = client.call("GET", "/v1/settings", key=None).json()
    assert (told["needs_key"], told["require_consent"]) == (False, True)
    client.service.access.keys.add("studio")
    assert client.call("GET", "/v1/settings", key=None).json()["needs_key"]


async def draw(avatar_id: str, sliders: Mapping[str, float], max_size: int) -> bytes:
    if sliders.get("yaw") == 13:
        raise Unavailable("the picture could not be drawn; try again", retry_after_s=2)
    return f"{sliders} {max_size}".encode()


@pytest.fixture
def drawing(client: Any, service: Service) -> Any:
    """A client of a service that draws pictures."""
    client.service = dataclasses.replace(service, draw_still=draw)
    return client


def test_a_still_is_drawn_of_a_ready_avatar(drawing: Any, refusal: Any) -> None:
    waiting = drawing.post_avatar().json()["avatar_id"]
    refused = drawing.call("POST", f"/v1/avatars/{waiting}/stills", json={})
    assert refusal(refused) == (409, "conflict", "the avatar is not ready: its job is queued")
    drawing.service.jobs.cancel(drawing.call("GET", f"/v1/avatars/{waiting}").json()["job_id"])
    path = f"/v1/avatars/{drawing.ready_avatar()}/stills"
    drawn = drawing.call("POST", path, json={"sliders": {"smile": 0.5, "yaw": -3}, "max_size": 256})
    assert (drawn.status_code, drawn.headers["content-type"]) == (200, "image/jpeg")
    assert drawn.content == b"{'smile': 0.5, 'yaw': -3.0} 256"
    assert drawing.call("POST", path, json={}).content == b"{} 512"
    assert refusal(drawing.call("POST", path, json={}, key=None))[:2] == (401, "unauthorized")
    late = drawing.call("POST", path, json={"sliders": {"yaw": 13}})
    assert refusal(late) == (503, "unavailable", "the picture could not be drawn; try again")
    assert late.headers["Retry-After"] == "2"
    gone = drawing.call("POST", f"/v1/avatars/{'0' * 32}/stills", json={})
    assert refusal(gone)[:2] == (404, "not_found")


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"sliders": {"nose": 1}}, "sliders: unknown slider 'nose'; known: pitch, yaw, roll"),
        ({"sliders": {"yaw": 41}}, "sliders: yaw must lie in [-40, 40], got 41"),
        ({"sliders": {"smile": "wide"}}, "body.sliders.smile: "),
        ({"sliders": {}, "max_size": 5000}, "body.max_size: "),
        ({"smile": 1}, "body.smile: "),
    ],
)
def test_wrong_sliders_are_named(drawing: Any, refusal: Any, body: dict[str, Any], detail: str) -> None:
    status, code, told = refusal(drawing.call("POST", f"/v1/avatars/{'0' * 32}/stills", json=body))
    assert (status, code) == (422, "bad_input")
    assert told.startswith(detail)


def test_a_service_without_stills_says_so_and_a_busy_one_too(client: Any, drawing: Any, refusal: Any) -> None:
    path = f"/v1/avatars/{drawing.ready_avatar()}/stills"
    drawing.service = dataclasses.replace(drawing.service, draw_still=None)
    told = refusal(drawing.call("POST", path, json={}))
    assert told == (503, "unavailable", "this service draws no single pictures")

    async def full() -> anyio.CapacityLimiter:
        limiter = anyio.CapacityLimiter(1)
        limiter.acquire_on_behalf_of_nowait("another request")
        return limiter

    drawing.service = dataclasses.replace(drawing.service, draw_still=draw, stills_waiting=asyncio.run(full()))
    assert refusal(drawing.call("POST", path, json={}))[:2] == (429, "queue_full")


def test_a_job_names_its_driver_and_its_side_by_side_video_and_an_avatar_its_crop(
    client: Any, service: Service
) -> None:
    avatar_id = client.post_avatar().json()["avatar_id"]
    job = service.jobs.claim("avatar", "test")
    assert job is not None
    service.jobs.finish(job, {"crop_left": 0.25, "crop_top": -0.1, "crop_width": 0.5, "crop_height": 0.4})
    assert client.call("GET", f"/v1/avatars/{avatar_id}").json()["crop"] == [0.25, -0.1, 0.5, 0.4]
    beside = VideoOptions(side_by_side=True)
    for number, (request, driver_id, url) in enumerate(
        (
            (VideoRequest("talk", "builtin:talk", beside), "builtin:talk", "/result?file=side-by-side"),
            (VideoRequest("talk", "builtin:talk"), "builtin:talk", None),
            (VideoRequest("driver.json", None, beside), None, None),
        )
    ):
        job_id = f"{number:032x}"
        service.jobs.reserve(job_id, avatar_id, "video")
        service.jobs.submit(job_id, request)
        job = service.jobs.claim("video", "test")
        assert job is not None
        service.jobs.finish(job, {})
        view = client.call("GET", f"/v1/jobs/{job_id}").json()
        assert view["driver_id"] == driver_id
        assert view["side_by_side_url"] == (url and f"/v1/jobs/{job_id}{url}")
