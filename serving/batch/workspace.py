"""Local copies of inputs and outputs that may be URLs: remote files are downloaded before use and uploaded after."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pipelines import storage
from pipelines.one_line import hide_credentials
from pipelines.storage.atomic import PARTIAL_PREFIX

AVATARS = "avatars"
"""Folder below `out` for the avatars of pictures."""
_MAX_DOWNLOADS = 32
"""Copies of remote inputs that are kept; the ones used longest ago are removed."""


class Workspace:
    """Local paths for inputs anywhere and results below `out` (a folder's path or URL)."""

    def __init__(self, out: str, scratch: Path, shared: Path | None = None) -> None:
        """Use the folder `scratch` alone, and `shared` together with the other workers of this machine, if any."""
        self.out = out
        self.shared = shared or scratch
        self.scratch = scratch
        """Folder of local copies of remote files."""
        self._local = storage.local_path(out) if storage.is_local(out) else None
        self._folder = self._local if self._local is not None else scratch / "out"
        self._inputs: OrderedDict[str, Path] = OrderedDict()
        self._num_downloads = 0

    def input(self, url: str) -> Path:
        """Return a local path to read `url` from; a remote file is downloaded, and kept for some time."""
        if storage.is_local(url):
            return storage.local_path(url)
        if url not in self._inputs:
            path = self.scratch / f"input-{self._num_downloads}{PurePosixPath(storage.name(url)).suffix}"
            self._num_downloads += 1
            _download(url, path)
            self._inputs[url] = path
        self._inputs.move_to_end(url)
        while len(self._inputs) > _MAX_DOWNLOADS:
            self._inputs.popitem(last=False)[1].unlink(missing_ok=True)
        return self._inputs[url]

    def with_urls(self, text: str) -> str:
        """Replace local paths of downloaded inputs in a message by their URLs."""
        for url, path in self._inputs.items():
            text = text.replace(str(path), hide_credentials(url))
        return text

    def output(self, name: str) -> Path:
        """Return the local path to write result `name` to. Call `publish` afterwards."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / name

    def publish(self, name: str) -> str:
        """Upload a written result when `out` is remote, and remove the local one; return its path or URL."""
        target = storage.join(self.out, name)
        if self._local is None:
            with (self._folder / name).open("rb") as source, storage.atomic_write(target) as sink:
                shutil.copyfileobj(source, sink)
            self.discard(name)
        return target

    def discard(self, name: str) -> None:
        """Remove the local copy of a result when `out` is remote."""
        if self._local is None:
            (self._folder / name).unlink(missing_ok=True)

    def result(self, name: str) -> Path:
        """Return a local path to read an earlier result from. Call `discard` afterwards."""
        path = self.output(name)
        if not path.exists():
            _download(storage.join(self.out, name), path)
        return path

    def remove_partial_files(self) -> None:
        """Remove what killed workers left unfinished in a local `out`."""
        if self._local is None:
            return
        folder = str(self._local)
        found = [*storage.list(folder, recursive=False), *storage.list(storage.join(folder, AVATARS))]
        for url in found:
            if PurePosixPath(url).name.startswith(PARTIAL_PREFIX):
                storage.remove(url)


@contextmanager
def open_workspace(out: str) -> Iterator[Workspace]:
    """Yield a workspace for `out`; remove its copies of remote files and unfinished files at the end.

    Raises:
        OSError: the temporary folder cannot be created.
    """
    with storage.ScratchFolder() as scratch:
        workspace = Workspace(out, Path(scratch))
        workspace.remove_partial_files()
        try:
            yield workspace
        finally:
            workspace.remove_partial_files()


def _download(url: str, path: Path) -> None:
    with storage.open(url) as source, path.open("wb") as sink:
        shutil.copyfileobj(source, sink)
