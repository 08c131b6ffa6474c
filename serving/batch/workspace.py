"""Local files for work whose inputs and outputs may be URLs: what is remote is copied here and back."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pipelines import storage


class Workspace:
    """Reads inputs and writes results below `out` (a folder's path or URL) as if all were local."""

    def __init__(self, out: str, scratch: Path) -> None:
        self.out = out
        self._scratch = scratch
        self._local = storage.local_path(out) if storage.is_local(out) else None
        self._folder = self._local if self._local is not None else scratch / "out"
        self._inputs: dict[str, Path] = {}

    def input(self, url: str) -> Path:
        """A local path to read `url` from; a remote file is copied once."""
        if storage.is_local(url):
            return storage.local_path(url)
        if url not in self._inputs:
            path = self._scratch / f"input-{len(self._inputs)}{PurePosixPath(url).suffix}"
            _download(url, path)
            self._inputs[url] = path
        return self._inputs[url]

    def output(self, name: str) -> Path:
        """The local path to write result `name` to; `publish` it afterwards."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / name

    def publish(self, name: str) -> str:
        """Put a written result where it belongs; returns its path or URL."""
        target = storage.join(self.out, name)
        if self._local is None:
            with (self._folder / name).open("rb") as source, storage.atomic_write(target) as sink:
                shutil.copyfileobj(source, sink)
        return target

    def result(self, name: str) -> Path:
        """A local path to read an earlier result from."""
        path = self.output(name)
        if not path.exists():
            _download(storage.join(self.out, name), path)
        return path


@contextmanager
def workspace(out: str) -> Iterator[Workspace]:
    """A workspace for `out`, its copies of remote files removed at the end.

    Raises:
        OSError: the folder cannot be made or written.
    """
    with tempfile.TemporaryDirectory(prefix="sfumato-") as scratch:
        yield Workspace(out, Path(scratch))


def _download(url: str, path: Path) -> None:
    with storage.open(url) as source, path.open("wb") as sink:
        shutil.copyfileobj(source, sink)
