"""The service when its disk is full, its folder is gone, and when things are deleted or have expired."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from pipelines import storage
from serving.service.config import QueueRules
from serving.service.housekeeping import Housekeeping
from serving.service.http.service import Service
from serving.service.state.drivers import Drivers, StoredDriver
from serving.service.state.job_queue import JobQueue

pytestmark = pytest.mark.slow


def files(service: Service) -> list[str]:
    """Return the files of the store, below its folder."""
    root = Path(service.store.root)
    found = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
    return sorted(str(path) for path in found if not path.name.startswith("jobs.sqlite3"))


def test_a_full_disk_refuses_uploads_and_goes_on_reading(
    client: Any, service: Service, refusal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = client.post_avatar().json()["id"]
    kept = files(service)

    @contextmanager
    def full(url: str) -> Iterator[None]:
        raise OSError(errno.ENOSPC, "No space left on device", url)
        yield

    monkeypatch.setattr(storage, "atomic_write", full)
    assert refusal(client.post_avatar()) == (507, "storage_full", "the server's disk is full; try again later")
    assert client.call("GET", f"/v1/jobs/{job_id}").json()["state"] == "queued"
    assert client.call("GET", "/healthz").status_code == 200
    assert files(service) == kept
    monkeypatch.undo()
    assert client.post_avatar().status_code == 202


def test_a_full_database_refuses_changes_and_goes_on_reading(client: Any, service: Service, refusal: Any) -> None:
    job_id = client.post_avatar().json()["id"]
    engine = service.jobs._database._engine

    def fill(connection: Any, _record: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    sqlalchemy.event.listen(engine, "connect", fill)
    long = {"consent": "x" * 190}
    replies = [client.post_avatar(data=long) for _ in range(2)]
    while replies[-1].status_code == 202:
        service.jobs.cancel(replies[-1].json()["id"])
        replies.append(client.post_avatar(data=long))
    assert refusal(replies[-1]) == (507, "storage_full", "the server's disk is full; try again later")
    assert client.call("GET", f"/v1/jobs/{job_id}").json()["state"] == "queued"
    assert client.call("GET", "/healthz").status_code == 200
    sqlalchemy.event.remove(engine, "connect", fill)
    assert client.post_avatar().status_code == 202


def test_a_data_folder_that_is_removed_is_made_again(client: Any, service: Service, refusal: Any) -> None:
    client.post_avatar()
    shutil.rmtree(service.store.root)
    assert refusal(client.call("GET", "/v1/jobs"))[:2] == (503, "unavailable")
    assert client.call("GET", "/v1/jobs").json()["jobs"] == []
    assert client.post_avatar().status_code == 202


def test_a_deleted_avatar_takes_with_it_all_that_was_made_of_it(client: Any, service: Service, video: bytes) -> None:
    avatar_id = client.ready_avatar()
    made = Path(service.store.root) / "made"
    made.write_bytes(b"x")
    for name in ("manifest.json", "portrait-0.png", "weights.safetensors"):
        service.store.put(made, storage.join(service.store.avatar(avatar_id), name))
    job_id = client.post_driver(avatar_id, video).json()["id"]
    client.post_driver(avatar_id, video)
    service.store.put(made, service.store.result(job_id))
    (Path(service.store.root) / "results" / job_id / ".partial-abc").write_bytes(b"of a killed encoder")
    made.unlink()
    assert len(files(service)) >= 7
    assert client.call("DELETE", f"/v1/avatars/{avatar_id}").status_code == 204
    assert files(service) == []
    assert not service.jobs.list()
    assert client.call("GET", f"/v1/avatars/{avatar_id}").status_code == 404
    assert client.call("GET", f"/v1/jobs/{job_id}").status_code == 404


def test_an_avatars_id_belongs_to_one_upload(client: Any, refusal: Any, picture: Any) -> None:
    avatar_id = client.ready_avatar()
    sent = {"files": {"pictures": ("me.png", picture((9, 9)))}}
    assert refusal(client.call("PUT", f"/v1/avatars/{avatar_id}", **sent))[:2] == (409, "conflict")
    chosen = f"/v1/avatars/{'a' * 32}"
    first, again = client.call("PUT", chosen, **sent), client.call("PUT", chosen, **sent)
    assert (first.status_code, first.json()["id"]) == (202, again.json()["id"])
    assert len(client.uploads) == 2


def test_uploads_and_results_expire(service: Service, tmp_path: Path) -> None:
    now = 1000.0
    rules = QueueRules(keep_uploads_s=60.0, keep_results_s=600.0)
    database = service.jobs._database
    jobs, drivers = JobQueue(database, rules, lambda: now), Drivers(database, lambda: now)
    sweep = Housekeeping(jobs, drivers, service.store).sweep
    (made := tmp_path / "made").write_bytes(b"x")
    store = service.store

    from serving.service.state.requests import VideoRequest

    for number in (1, 2, 3):  # 1 is done, 2 waits, 3 was never sent whole
        jobs.reserve(f"{number:032}", "9" * 32, "video")
        store.put(made, store.upload(f"{number:032}", "driver.mp4"))
    drivers.reserve(StoredDriver("8" * 32, "", "a", "driver.mp4", 1, now))
    store.put(made, store.driver("8" * 32, "driver.mp4"))
    jobs.submit(f"{1:032}", VideoRequest("driver.mp4"))
    jobs.submit(f"{2:032}", VideoRequest("driver.mp4"))
    job = jobs.claim("video", "w")
    assert job is not None
    store.put(made, store.result(job.id))
    jobs.finish(job, {})
    assert jobs.get(job.id).expires_at == 1600.0
    sweep()
    assert len(files(service)) == 5
    now = 1061.0
    sweep()
    assert f"uploads/{1:032}/driver.mp4" not in files(service)
    assert len(files(service)) == 4
    now = 1601.0
    sweep()
    assert files(service) == [f"drivers/{'8' * 32}/driver.mp4", *(f"uploads/{n:032}/driver.mp4" for n in (2, 3))]
    assert [job.id for job in jobs.list()] == [f"{2:032}"]
    now = 1000.0 + 3601.0
    sweep()
    assert files(service) == [f"uploads/{2:032}/driver.mp4"], "what waits is kept"


def test_reads_answer_head_and_the_interface_names_its_keys(client: Any) -> None:
    job_id = client.post_avatar().json()["id"]
    for path in ("/v1/jobs", f"/v1/jobs/{job_id}", "/v1/drivers", "/healthz", "/v1/drivers/builtin:talk/content"):
        reply = client.call("HEAD", path)
        assert (reply.status_code, reply.content) == (200, b""), path
    described = client.call("GET", "/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    (scheme,) = described["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, operations in described["paths"].items():
        for operation in operations.values():
            assert bool(operation.get("security")) != (path in ("/healthz", "/v1/settings")), path
