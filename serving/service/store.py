"""Files of the service: uploads, results and avatars.

    <data_dir>/jobs.sqlite3                  the jobs table
    <data_dir>/uploads/<job id>/picture-01   uploaded files; removed when the job has ended
    <data_dir>/results/<job id>/video.mp4    rendered videos
    <avatars>/<avatar id>/manifest.json ...  avatars (training.avatars.avatar writes the manifest last)

An id is 32 random hex digits. A client's text becomes part of a path only after `checked_id` has validated it as an id.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipelines import storage
from serving.service.errors import NotFound

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

    data_dir: Path
    avatars: str
    """Path or URL of the folder of avatars."""

    @staticmethod
    def create(data_dir: str, avatars: str | None = None) -> Store:
        """Return the store in `data_dir`; create its folders, readable by this user only."""
        root = Path(data_dir).expanduser().absolute()
        for folder in (root, root / "uploads", root / "results"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Store(root, avatars if avatars is not None else str(root / "avatars"))

    @property
    def jobs_table(self) -> Path:
        return self.data_dir / "jobs.sqlite3"

    def uploads(self, job_id: str) -> Path:
        """Return the folder of a job's uploads."""
        return self.data_dir / "uploads" / checked_id(job_id, "job")

    def upload(self, job_id: str, name: str) -> Path:
        """Return the path of an upload by the name that the ingress gave it."""
        return self.uploads(job_id) / Path(name).name

    @contextmanager
    def new_upload(self) -> Iterator[tuple[str, Path]]:
        """Yield a new job id and its empty upload folder, which is removed when the block raises."""
        job_id = new_id()
        folder = self.uploads(job_id)
        folder.mkdir(parents=True, mode=0o700)
        try:
            yield job_id, folder
        except BaseException:
            self.remove_uploads(job_id)
            raise

    def remove_stale_uploads(self, active: Container[str]) -> None:
        """Remove uploads of jobs that are not active: a worker was lost after a cancel, or the power failed."""
        for folder in (self.data_dir / "uploads").iterdir():
            if folder.name not in active:
                shutil.rmtree(folder, ignore_errors=True)

    def remove_uploads(self, job_id: str) -> None:
        """Remove a job's uploads, because pictures of people are kept no longer than needed."""
        shutil.rmtree(self.uploads(job_id), ignore_errors=True)

    def result(self, job_id: str) -> Path:
        """Return the path of a job's video."""
        return self.data_dir / "results" / checked_id(job_id, "job") / "video.mp4"

    def avatar(self, avatar_id: str) -> str:
        """Return the path or URL of an avatar's folder."""
        return storage.join(self.avatars, checked_id(avatar_id, "avatar"))
