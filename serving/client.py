"""A client of the HTTP service: upload, wait, download."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

_POLL_SECONDS = 0.5


def make_avatar(url: str, pictures: Sequence[Path], consent: str, *, timeout_s: float) -> str:
    """Upload pictures of one person, wait for the avatar and return its id.

    Raises:
        ValueError: the service refused the pictures or the job failed; the message is the service's.
        TimeoutError: the job took longer than `timeout_s`.
    """
    files = [("pictures", (picture.name, picture.read_bytes())) for picture in pictures]
    reply = httpx.post(f"{url}/v1/avatars", files=files, data={"consent": consent}, timeout=60)
    return str(_wait(url, _body(reply), timeout_s)["avatar_id"])


def make_video(url: str, avatar_id: str, driver: Path, out: Path, *, timeout_s: float) -> None:
    """Upload a driver for a ready avatar, wait for the video and save it.

    Raises:
        ValueError: the service refused the driver or the job failed; the message is the service's.
        TimeoutError: the job took longer than `timeout_s`.
    """
    files = {"driver": (driver.name, driver.read_bytes())}
    reply = httpx.post(f"{url}/v1/avatars/{avatar_id}/videos", files=files, timeout=60)
    job = _wait(url, _body(reply), timeout_s)
    result = httpx.get(f"{url}{job['result_url']}", timeout=60)
    result.raise_for_status()
    out.write_bytes(result.content)


def _wait(url: str, job: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any]:
    deadline = time.monotonic() + timeout_s
    while job["state"] in ("queued", "running"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"job {job['id']} is still {job['state']} after {timeout_s:.0f} s")
        time.sleep(_POLL_SECONDS)
        job = _body(httpx.get(f"{url}{job['url']}", timeout=60))
    if job["state"] != "done":
        raise ValueError(f"the {job['kind']} job is {job['state']}: {job['error']}")
    return job


def _body(reply: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = reply.json()
    if reply.is_error:
        raise ValueError(f"the service answered {reply.status_code}: {body['detail']}")
    return body
