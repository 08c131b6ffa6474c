"""Where the service keeps what it is given and what it makes.

    <data_dir>/jobs.sqlite3                  the jobs table
    <data_dir>/uploads/<job id>/picture-01   what clients sent; removed when the job has ended
    <data_dir>/results/<job id>/video.mp4    rendered videos
    <avatars>/<avatar id>/manifest.json ...  avatars (training.avatars.avatar writes the manifest last)

Every name is made here: an id is 32 random hex digits, and text from a client becomes part of a path only after
`checked_id` found it to be one.
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
    """A fresh id for a job or an avatar: 128 random bits, so that nobody guesses another's."""
    return secrets.token_hex(16)


def checked_id(text: str, what: str) -> str:
    """`text` when it has the form of our ids; NotFound ("there is no such job") when it has not."""
    if not _ID.fullmatch(text):
        raise NotFound(f"there is no such {what}")
    return text


@dataclass(frozen=True)
class Store:
    """The folders of one service."""

    data_dir: Path
    avatars: str
    """Path or URL below which the avatars are."""

    @staticmethod
    def create(data_dir: str, avatars: str | None = None) -> Store:
        """The store below `data_dir`, its folders made when missing, private to this user."""
        root = Path(data_dir).expanduser().absolute()
        for folder in (root, root / "uploads", root / "results"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Store(root, avatars if avatars is not None else str(root / "avatars"))

    @property
    def jobs_table(self) -> Path:
        return self.data_dir / "jobs.sqlite3"

    def uploads(self, job_id: str) -> Path:
        """The folder of a job's uploaded files."""
        return self.data_dir / "uploads" / checked_id(job_id, "job")

    def upload(self, job_id: str, name: str) -> Path:
        """One uploaded file, by the name that the ingress gave it."""
        return self.uploads(job_id) / Path(name).name

    @contextmanager
    def new_upload(self) -> Iterator[tuple[str, Path]]:
        """A new job id and its empty upload folder; the folder goes when the block ends with an error."""
        job_id = new_id()
        folder = self.uploads(job_id)
        folder.mkdir(parents=True, mode=0o700)
        try:
            yield job_id, folder
        except BaseException:
            self.forget_uploads(job_id)
            raise

    def sweep_uploads(self, unended: Container[str]) -> None:
        """Remove what ended jobs and broken-off uploads left behind (a worker lost after a cancel, a power cut)."""
        for folder in (self.data_dir / "uploads").iterdir():
            if folder.name not in unended:
                shutil.rmtree(folder, ignore_errors=True)

    def forget_uploads(self, job_id: str) -> None:
        """Remove a job's uploads: pictures of people are kept no longer than needed."""
        shutil.rmtree(self.uploads(job_id), ignore_errors=True)

    def result(self, job_id: str) -> Path:
        """The video of a finished video job."""
        return self.data_dir / "results" / checked_id(job_id, "job") / "video.mp4"

    def avatar(self, avatar_id: str) -> str:
        """Path or URL of an avatar's folder."""
        return storage.join(self.avatars, checked_id(avatar_id, "avatar"))
