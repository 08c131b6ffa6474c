"""Files of the service, below one folder's path or URL, which all machines share.

    uploads/<job id>/picture-01.jpg     uploaded files; removed when the job has ended, or later
    results/<job id>/video.mp4          rendered videos, side-by-side.mp4 and preview.jpg
    drivers/<driver id>/driver.mp4      stored drivers
    <avatars>/<avatar id>/...           avatars (training.avatars.avatar writes the manifest last)

An id is 32 hex digits. A client's text becomes part of a path only after `checked_id` has validated it as an id.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipelines import storage
from serving.service.errors import NotFound

VIDEO, SIDE_BY_SIDE, PREVIEW = "video.mp4", "side-by-side.mp4", "preview.jpg"
"""Files of a result."""
_ID = re.compile(r"[0-9a-f]{32}")


def new_id() -> str:
    """Return a new id for a job or an avatar: 128 random bits, so that ids cannot be guessed."""
    return secrets.token_hex(16)


def checked_id(text: str, what: str) -> str:
    """Return `text` if it has the form of an id. Raises NotFound ("there is no such job") otherwise."""
    if not _ID.fullmatch(text):
        raise NotFound(f"there is no such {what}")
    return text


@dataclass(frozen=True)
class Store:
    """The folders of a service."""

    root: str
    """Path or URL."""
    avatars: str
    """Path or URL of the folder of avatars."""

    @staticmethod
    def create(root: str, avatars: str | None = None) -> Store:
        """Return the store in `root`; create its folder if it is local, readable by this user only.

        Raises:
            ValueError: a file has the folder's name.
        """
        if storage.is_local(root):
            folder = storage.local_path(root).expanduser().absolute()
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            except (FileExistsError, NotADirectoryError):
                raise ValueError(f"{folder} is a file, not a folder for the service's data") from None
            root = str(folder)
        return Store(root, avatars if avatars is not None else storage.join(root, "avatars"))

    def upload(self, job_id: str, name: str) -> str:
        """Return the path or URL of an upload by the name that the ingress gave it."""
        return storage.join(self.root, "uploads", checked_id(job_id, "job"), Path(name).name)

    def result(self, job_id: str, name: str = VIDEO) -> str:
        """Return the path or URL of a file of a job's result."""
        return storage.join(self.root, "results", checked_id(job_id, "job"), Path(name).name)

    def driver(self, driver_id: str, name: str) -> str:
        """Return the path or URL of a stored driver."""
        return storage.join(self.root, "drivers", checked_id(driver_id, "driver"), Path(name).name)

    def avatar(self, avatar_id: str) -> str:
        """Return the path or URL of an avatar's folder."""
        return storage.join(self.avatars, checked_id(avatar_id, "avatar"))

    def put(self, source: Path, url: str) -> None:
        """Copy a local file to `url`, where it appears complete or not at all."""
        with source.open("rb") as content, self._writing(url) as sink:
            shutil.copyfileobj(content, sink)

    def put_bytes(self, content: bytes, url: str) -> None:
        """Write a small file to `url`, likewise."""
        with self._writing(url) as sink:
            sink.write(content)

    @contextmanager
    def _writing(self, url: str) -> Iterator[IO[bytes]]:
        if storage.is_local(url):
            storage.local_path(url).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with storage.atomic_write(url) as sink:
            yield sink

    @contextmanager
    def local(self, url: str) -> Iterator[Path]:
        """Yield a local path of a file in the store. Raises FileNotFoundError."""
        with storage.local_copy(url) as path:
            yield path

    def remove_uploads(self, job_id: str) -> None:
        """Remove a job's uploads, because pictures of people are kept no longer than needed."""
        self._remove(storage.join(self.root, "uploads", checked_id(job_id, "job")))

    def remove_result(self, job_id: str) -> None:
        """Remove all files of a job's result."""
        self._remove(storage.join(self.root, "results", checked_id(job_id, "job")))

    def remove_driver(self, driver_id: str) -> None:
        """Remove a stored driver."""
        self._remove(storage.join(self.root, "drivers", checked_id(driver_id, "driver")))

    def remove_avatar(self, avatar_id: str) -> None:
        """Remove an avatar's files."""
        self._remove(self.avatar(avatar_id))

    def _remove(self, folder: str) -> None:
        storage.remove(folder, recursive=True)
