"""Routes of the HTTP interface: what each answers, and what it refuses before it reads an upload."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from serving.service.http.service import Service


def test_pictures_become_a_queued_job_and_files_with_server_side_names(client: Any, picture: Any) -> None:
    response = client.post_avatar(picture(), picture((9, 9)), data={"consent": "It is me."})
    job = response.json()
    assert (response.status_code, job["kind"], job["state"]) == (202, "avatar", "queued")
    assert response.headers["Location"] == f"/v1/jobs/{job['id']}" == job["url"]
    assert sorted(path.name for path in client.uploads_of(job["id"])) == [
        "picture-01.png",
        "picture-02.png",
    ]
    avatar = client.call("GET", f"/v1/avatars/{job['avatar_id']}").json()
    assert (avatar["state"], avatar["num_pictures"], avatar["consent"]) == ("queued", 2, "It is me.")


def test_a_name_with_a_path_in_it_changes_nothing(client: Any, picture: Any) -> None:
    response = client.post_avatar(picture(), name="../../../../etc/cron.d/x.jpg", field="pictures[]")
    assert [path.name for path in client.uploads_of(response.json()["id"])] == ["picture-01.jpg"]


def test_a_ready_avatar_takes_a_driver_and_gives_back_its_video(
    client: Any, service: Service, video: bytes, tmp_path: Path
) -> None:
    avatar_id = client.ready_avatar()
    assert client.call("GET", f"/v1/avatars/{avatar_id}").json()["state"] == "ready"
    response = client.post_driver(avatar_id, video)
    assert (response.status_code, response.json()["kind"]) == (202, "video")
    job = service.jobs.claim("video", "test")
    assert job is not None
    (made := tmp_path / "made.mp4").write_bytes(video)
    service.store.put(made, service.store.result(job.id))
    service.jobs.finish(job, {"frames": 3})
    view = client.call("GET", f"/v1/jobs/{job.id}").json()
    assert (view["state"], view["facts"]) == ("done", {"frames": 3})
    result = client.call("GET", view["result_url"])
    assert (result.headers["content-type"], result.content) == ("video/mp4", video)


def test_the_result_of_an_avatar_job_describes_the_avatar(client: Any) -> None:
    avatar_id = client.ready_avatar()
    job_id = client.call("GET", f"/v1/avatars/{avatar_id}").json()["job_id"]
    result = client.call("GET", f"/v1/jobs/{job_id}/result").json()
    assert (result["id"], result["state"], result["num_steps"], result["base_model"]) == (avatar_id, "ready", 40, "abc")


def test_a_failed_job_says_why(client: Any, service: Service, refusal: Any) -> None:
    job_id = client.post_avatar().json()["id"]
    job = service.jobs.claim("avatar", "test")
    assert job is not None
    service.jobs.fail(job, "picture 1: no face found")
    assert client.call("GET", f"/v1/jobs/{job_id}").json()["error"] == "picture 1: no face found"
    assert refusal(client.call("GET", f"/v1/jobs/{job_id}/result")) == (
        409,
        "conflict",
        "there is no result, the job is failed: picture 1: no face found",
    )


def test_a_cancelled_job_forgets_its_uploads(client: Any) -> None:
    job_id = client.post_avatar().json()["id"]
    assert client.call("POST", f"/v1/jobs/{job_id}/cancel").json()["state"] == "cancelled"
    assert not client.uploads_of(job_id)


def test_the_same_idempotency_key_makes_one_job(client: Any, picture: Any, refusal: Any) -> None:
    header = {"Idempotency-Key": "once"}
    first, again = client.post_avatar(headers=header), client.post_avatar(headers=header)
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(client.uploads) == 1
    assert refusal(client.post_avatar(picture((9, 9)), headers=header))[0] == 422


def test_the_health_check_needs_no_key(client: Any) -> None:
    assert client.call("GET", "/healthz", key=None).json() == {"status": "ok"}


def test_the_interface_describes_its_uploads(client: Any) -> None:
    paths = client.call("GET", "/openapi.json").json()["paths"]
    body = paths["/v1/avatars"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert set(body["schema"]["properties"]) == {"pictures", "consent", "face", "webhook"}


@pytest.mark.parametrize("key", [None, "", " ", "wrong", "an-api-key-of-some-lengthx"])
def test_a_missing_or_wrong_key_is_401(client: Any, refusal: Any, key: str | None) -> None:
    response = client.post_avatar(key=key)
    assert refusal(response)[:2] == (401, "unauthorized")
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/v1/jobs/{}", "/v1/jobs/{}/result", "/v1/avatars/{}"])
@pytest.mark.parametrize("id", ["0" * 32, "..%2f..%2fetc", "A" * 32, "0" * 31])
def test_unknown_ids_are_404(client: Any, refusal: Any, path: str, id: str) -> None:
    assert refusal(client.call("GET", path.format(id)))[:2] == (404, "not_found")


def test_an_avatar_that_is_not_ready_is_409(client: Any, refusal: Any, video: bytes) -> None:
    response = client.post_driver(client.post_avatar().json()["avatar_id"], video)
    assert refusal(response) == (409, "conflict", "the avatar is not ready: its job is queued")


def test_a_full_queue_is_429_with_retry_after(client: Any, refusal: Any) -> None:
    statuses = [client.post_avatar().status_code for _ in range(4)]
    assert statuses == [202, 202, 202, 429]
    response = client.post_avatar()
    assert refusal(response) == (429, "queue_full", "3 jobs are waiting already")
    assert response.headers["Retry-After"] == "7"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Origin": "https://evil.example"},
        {"Host": "[::1"},
        {"Origin": "http://[::1"},
        {"Origin": "null"},
    ],
)
def test_requests_of_foreign_pages_are_refused(
    client: Any, service: Service, refusal: Any, headers: dict[str, str]
) -> None:
    client.service = dataclasses.replace(
        service, access=dataclasses.replace(service.access, open=True, api_key=None, allowed_hosts=("localhost",))
    )
    assert client.post_avatar().status_code == 202
    assert refusal(client.post_avatar(headers=headers))[:2] == (403, "forbidden")


def test_a_database_that_does_not_answer_is_503_without_details(
    client: Any, service: Service, refusal: Any, tmp_path: Path
) -> None:
    table = tmp_path / "data" / "jobs.sqlite3"
    table.unlink()
    table.mkdir()
    assert refusal(client.call("GET", f"/v1/jobs/{'0' * 32}")) == (
        503,
        "unavailable",
        "the service's database does not answer; try again",
    )
    table.rmdir()
    assert client.call("GET", "/healthz").status_code == 503, "an empty database is made"
    assert client.call("GET", "/healthz").status_code == 200


def test_routes_that_do_not_exist_answer_in_the_same_form(client: Any, refusal: Any) -> None:
    assert refusal(client.call("GET", "/v2"))[:2] == (404, "not_found")
    assert refusal(client.call("PUT", "/v1/avatars"))[0] == 405
