"""The HTTP interface, through ASGI in this process: no Ray, no network; jobs are settled by hand."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from pipelines.media.video import VideoWriter
from serving.service.config import QueueRules, UploadLimits
from serving.service.job_queue import JobQueue
from serving.service.routes import Service, create_api
from serving.service.store import Store

KEY = "an-api-key-of-some-length"
LIMITS = UploadLimits(max_body=200_000, max_picture=50_000, max_pictures=3, max_field=200, max_fields=3)


@pytest.fixture
def service(tmp_path: Path) -> Service:
    store = Store.create(str(tmp_path / "data"))
    return Service(JobQueue(store.jobs_table, QueueRules(max_waiting=3, retry_after_s=7)), store, LIMITS, KEY)


@pytest.fixture
def video(tmp_path: Path) -> bytes:
    path = tmp_path / "driver.mp4"
    with VideoWriter(path, width=32, height=32, fps=Fraction(25)) as writer:
        for level in (0, 100, 200):
            writer.write(np.full((32, 32, 3), level, np.uint8))
    return path.read_bytes()


def picture(size: tuple[int, int] = (8, 8), format: str = "PNG") -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", size, (200, 100, 50)).save(sink, format)
    return sink.getvalue()


def call(service: Service, method: str, path: str, *, key: str | None = KEY, **more: Any) -> httpx.Response:
    """One request. `headers` in `more` come on top of the API key's."""
    headers = {**({"Authorization": f"Bearer {key}"} if key else {}), **more.pop("headers", {})}

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(create_api(service), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, headers=headers, **more)

    return asyncio.run(run())


def files(*contents: bytes, field: str = "pictures", name: str = "me.png") -> list[tuple[str, tuple[str, bytes]]]:
    return [(field, (name, content)) for content in contents]


def post_avatar(service: Service, *contents: bytes, **more: Any) -> httpx.Response:
    return call(service, "POST", "/v1/avatars", files=files(*(contents or (picture(),))), **more)


def refusal(response: httpx.Response) -> tuple[int, str, str]:
    error = response.json()["error"]
    return response.status_code, error["code"], error["message"]


def ready_avatar(service: Service) -> str:
    avatar_id: str = post_avatar(service).json()["avatar_id"]
    job = service.jobs.claim("avatar", "test")
    assert job is not None
    assert service.jobs.finish(job, {"num_steps": 40, "base_model": "abc"})
    return avatar_id


# What works


def test_pictures_become_a_queued_job_and_files_under_names_of_ours(service: Service) -> None:
    response = post_avatar(service, picture(), picture((9, 9)), data={"consent": "It is me."})
    job = response.json()
    assert (response.status_code, job["kind"], job["state"]) == (202, "avatar", "queued")
    assert response.headers["Location"] == f"/v1/jobs/{job['id']}" == job["url"]
    assert sorted(path.name for path in service.store.uploads(job["id"]).iterdir()) == [
        "picture-01.png",
        "picture-02.png",
    ]
    avatar = call(service, "GET", f"/v1/avatars/{job['avatar_id']}").json()
    assert (avatar["state"], avatar["num_pictures"], avatar["consent"]) == ("queued", 2, "It is me.")


def test_a_name_with_a_path_in_it_changes_nothing(service: Service) -> None:
    response = call(
        service, "POST", "/v1/avatars", files=files(picture(), name="../../../../etc/cron.d/x.jpg", field="pictures[]")
    )
    folder = service.store.uploads(response.json()["id"])
    assert [path.name for path in folder.iterdir()] == ["picture-01.jpg"]


def test_a_ready_avatar_takes_a_driver_and_gives_back_its_video(service: Service, video: bytes) -> None:
    avatar_id = ready_avatar(service)
    assert call(service, "GET", f"/v1/avatars/{avatar_id}").json()["state"] == "ready"
    response = call(service, "POST", f"/v1/avatars/{avatar_id}/videos", files=files(video, field="driver"))
    assert (response.status_code, response.json()["kind"]) == (202, "video")
    job = service.jobs.claim("video", "test")
    assert job is not None
    service.store.result(job.id).parent.mkdir(parents=True)
    service.store.result(job.id).write_bytes(video)
    service.jobs.finish(job, {"frames": 3})
    view = call(service, "GET", f"/v1/jobs/{job.id}").json()
    assert (view["state"], view["facts"]) == ("done", {"frames": 3})
    result = call(service, "GET", view["result_url"])
    assert (result.headers["content-type"], result.content) == ("video/mp4", video)


def test_the_result_of_an_avatar_job_describes_the_avatar(service: Service) -> None:
    avatar_id = ready_avatar(service)
    job_id = call(service, "GET", f"/v1/avatars/{avatar_id}").json()["job_id"]
    result = call(service, "GET", f"/v1/jobs/{job_id}/result").json()
    assert (result["id"], result["state"], result["num_steps"], result["base_model"]) == (avatar_id, "ready", 40, "abc")


def test_a_failed_job_says_why(service: Service) -> None:
    job_id = post_avatar(service).json()["id"]
    job = service.jobs.claim("avatar", "test")
    assert job is not None
    service.jobs.fail(job, "picture 1: no face found")
    assert call(service, "GET", f"/v1/jobs/{job_id}").json()["error"] == "picture 1: no face found"
    assert refusal(call(service, "GET", f"/v1/jobs/{job_id}/result")) == (
        409,
        "conflict",
        "there is no result, the job is failed: picture 1: no face found",
    )


def test_a_cancelled_job_forgets_its_uploads(service: Service) -> None:
    job_id = post_avatar(service).json()["id"]
    assert call(service, "DELETE", f"/v1/jobs/{job_id}").json()["state"] == "cancelled"
    assert not service.store.uploads(job_id).exists()


def test_the_same_idempotency_key_makes_one_job(service: Service) -> None:
    header = {"Idempotency-Key": "once"}
    first, again = post_avatar(service, headers=header), post_avatar(service, headers=header)
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(list((service.store.data_dir / "uploads").iterdir())) == 1
    assert refusal(post_avatar(service, picture((9, 9)), headers=header))[0] == 422


def test_the_health_check_needs_no_key(service: Service) -> None:
    assert call(service, "GET", "/healthz", key=None).json() == {"status": "ok"}


def test_the_interface_describes_its_uploads(service: Service) -> None:
    paths = call(service, "GET", "/openapi.json").json()["paths"]
    body = paths["/v1/avatars"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert set(body["schema"]["properties"]) == {"pictures", "consent"}


# What is refused


@pytest.mark.parametrize("key", [None, "", "wrong", KEY + "x"])
def test_a_missing_or_wrong_key_is_401(service: Service, key: str | None) -> None:
    response = post_avatar(service, key=key)
    assert refusal(response)[:2] == (401, "unauthorized")
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/v1/jobs/{}", "/v1/jobs/{}/result", "/v1/avatars/{}"])
@pytest.mark.parametrize("id", ["0" * 32, "..%2f..%2fetc", "A" * 32, "0" * 31])
def test_unknown_ids_are_404(service: Service, path: str, id: str) -> None:
    assert refusal(call(service, "GET", path.format(id)))[:2] == (404, "not_found")


def test_an_avatar_that_is_not_ready_is_409(service: Service, video: bytes) -> None:
    avatar_id = post_avatar(service).json()["avatar_id"]
    response = call(service, "POST", f"/v1/avatars/{avatar_id}/videos", files=files(video, field="driver"))
    assert refusal(response) == (409, "conflict", "the avatar is not ready: its job is queued")


def test_a_full_queue_is_429_with_retry_after(service: Service) -> None:
    statuses = [post_avatar(service).status_code for _ in range(4)]
    assert statuses == [202, 202, 202, 429]
    response = post_avatar(service)
    assert refusal(response) == (429, "queue_full", "3 jobs are waiting already")
    assert response.headers["Retry-After"] == "7"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "picture 1 is empty"),
        (b"not a picture", "picture 1 is not a JPEG"),
        (picture((64, 64), "JPEG")[:300], "picture 1 is a broken picture"),
    ],
)
def test_what_is_no_picture_is_422_with_the_reason_and_leaves_nothing(
    service: Service, content: bytes, reason: str
) -> None:
    status, code, message = refusal(call(service, "POST", "/v1/avatars", files=files(content, name="me.jpg")))
    assert (status, code) == (422, "bad_input")
    assert message.startswith(reason)
    assert str(service.store.data_dir) not in message
    assert not list((service.store.data_dir / "uploads").iterdir())


def test_a_text_named_mp4_is_422_with_the_reason(service: Service) -> None:
    avatar_id = ready_avatar(service)
    response = call(
        service, "POST", f"/v1/avatars/{avatar_id}/videos", files=files(b"hello", field="driver", name="driver.mp4")
    )
    status, _, message = refusal(response)
    assert status == 422
    assert message.startswith("driver")
    assert str(service.store.data_dir) not in message


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
def test_malformed_and_oversized_requests_are_refused(service: Service, more: dict[str, Any], status: int) -> None:
    response = call(service, "POST", "/v1/avatars", **more)
    assert response.status_code == status, response.text
    assert response.json()["error"]["message"]
    assert not list((service.store.data_dir / "uploads").iterdir())


def test_a_body_without_length_is_refused_while_it_streams(service: Service) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="pictures"; filename="a.png"\r\n\r\n'
        while True:
            sent += 50_000
            yield bytes(50_000)

    response = call(
        service,
        "POST",
        "/v1/avatars",
        content=endless(),
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert refusal(response)[:2] == (413, "too_large")
    assert sent <= LIMITS.max_body + 100_000


def test_a_client_that_stops_sending_is_408(tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "data"))
    limits = UploadLimits(idle_timeout_s=0.05)
    api = create_api(Service(JobQueue(store.jobs_table, QueueRules()), store, limits, None))
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
        "headers": [(b"content-type", b"multipart/form-data; boundary=x"), (b"host", b"localhost")],
    }

    async def receive() -> Mapping[str, Any]:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    await api(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
def test_requests_of_foreign_pages_are_refused(service: Service, headers: dict[str, str]) -> None:
    guarded = Service(service.jobs, service.store, LIMITS, None, ("localhost",))
    assert post_avatar(guarded, key=None).status_code == 202
    assert refusal(post_avatar(guarded, key=None, headers=headers))[:2] == (403, "forbidden")


def test_a_fault_of_ours_is_500_without_details(service: Service) -> None:
    service.store.jobs_table.unlink()
    service.store.jobs_table.mkdir()
    assert refusal(call(service, "GET", f"/v1/jobs/{'0' * 32}")) == (
        500,
        "internal",
        "internal error; it is in the server's log",
    )


def test_routes_that_do_not_exist_answer_in_the_same_form(service: Service) -> None:
    assert refusal(call(service, "GET", "/v2"))[:2] == (404, "not_found")
    assert refusal(call(service, "PUT", "/v1/avatars"))[0] == 405
