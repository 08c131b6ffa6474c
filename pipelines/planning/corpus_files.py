"""List the films of a folder or tar: video files, members of tars, and folders of frames; and the other files.

Listings are lazy: a corpus of a million clips is never held in memory.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from pipelines import storage
from pipelines.media.container import VIDEO_SUFFIXES
from pipelines.media.frame_folder import FRAME_SUFFIXES
from pipelines.planning import tars
from pipelines.storage import FileInfo

_COMPRESSED = (".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
_MEDIA = VIDEO_SUFFIXES | FRAME_SUFFIXES
_TARS_AHEAD = 64  # of a store, whose headers are read at once
_NUMBER_AT_END = re.compile(r"\d+$")


@dataclass(frozen=True, slots=True)
class File:
    """A file of the corpus, a member of a tar in it, or a folder of frames."""

    relative: str
    """Path inside the corpus; that of a folder of frames ends with a slash."""
    num_bytes: int
    checksum: str | None = None
    location: str | None = None
    offset: int | None = None
    is_numbered: bool = True
    """For a folder of frames: whether the names of the pictures differ in a number alone, as those of frames do."""

    # These are asked for several times for each of millions of files: plain text is six times as fast as PurePosixPath.
    @property
    def parts(self) -> tuple[str, ...]:
        """The folders and the name."""
        return tuple(self.relative.rstrip("/").split("/"))

    @property
    def suffix(self) -> str:
        """The suffix of the name in lower case; none for a folder of frames."""
        dot = self.relative.rfind(".")
        return self.relative[dot:].lower() if dot > self.relative.rfind("/") + 1 else ""

    @property
    def is_frames(self) -> bool:
        """Whether it is a folder of frames."""
        return self.relative.endswith("/")

    @property
    def is_video(self) -> bool:
        """Whether it is a video file."""
        return self.suffix in VIDEO_SUFFIXES

    @property
    def is_compressed(self) -> bool:
        """Whether it is a compressed archive, which cannot be read in place."""
        return self.relative.lower().endswith(_COMPRESSED)

    @property
    def stem(self) -> str:
        """The path without the suffix of a video, without the slash of a folder of frames."""
        path = self.relative.rstrip("/")
        suffix = path[path.rfind(".") :].lower()
        return path[: -len(suffix)] if suffix in VIDEO_SUFFIXES else path

    @property
    def name(self) -> str:
        """The last part of `stem`."""
        return self.stem.rpartition("/")[2]


def corpus_root(src: str) -> str:
    """Return the folder that relative paths of `src` start from."""
    if storage.is_folder(src):
        return src.rstrip("/") or "/"
    return storage.parent(src)


def list_files(src: str) -> Iterator[File]:
    """Yield every file that is not hidden in the folder or tar `src`, and the folders of frames among them.

    Raises:
        ValueError: a tar is broken, or a name is no valid UTF-8.
    """
    if not storage.is_folder(src):
        name = src.rpartition("/")[2]
        yield from _files(FileInfo(src, storage.size(src), None), name)
        return
    open_folders = list[_PictureFolder]()
    for name, files in _found(src):
        while open_folders and not name.startswith(open_folders[-1].prefix):
            yield from open_folders.pop().files()
        for file in files:
            if file.location is None and file.suffix in _MEDIA:
                folder = name[: max(0, name.rfind("/"))]
                if not open_folders or open_folders[-1].folder != folder:
                    open_folders.append(_PictureFolder(folder))
                open_folders[-1].add(file)
            yield file
    while open_folders:
        yield from open_folders.pop().files()


def _found(src: str) -> Iterator[tuple[str, Iterable[File]]]:
    """Yield the name of each file below a folder that is not hidden, and the file or a tar's members.

    The tars of a store are listed ahead, many at once: each of their headers is a request.
    """
    root, ahead = corpus_root(src), deque[tuple[str, Iterable[File], Future[tars.MemberList] | None]]()
    is_local = storage.is_local(src)
    with ThreadPoolExecutor(_TARS_AHEAD) as pool:
        try:
            for info in storage.walk(src):
                name = storage.relative(info.url, root)
                if storage.is_hidden(name):
                    continue
                listing = None
                if not is_local and _is_tar(name):
                    listing = pool.submit(tars.remote_members, info.url, info.num_bytes, info.checksum)
                ahead.append((name, _files(info, name), listing))
                if is_local or len(ahead) > _TARS_AHEAD:
                    yield _listed(*ahead.popleft())
            while ahead:
                yield _listed(*ahead.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _listed(name: str, files: Iterable[File], listing: Future[tars.MemberList] | None) -> tuple[str, Iterable[File]]:
    if listing is not None:
        listing.result()
    return name, files


def _is_tar(name: str) -> bool:
    return name[-4:].lower() == ".tar"


def _files(info: FileInfo, name: str) -> Iterable[File]:
    """Return the file, or in the place of a tar its members."""
    if _is_tar(name):
        return _members(info, check_utf8(name))
    return (File(check_utf8(name), info.num_bytes, info.checksum),)


def _members(info: FileInfo, location: str) -> Iterator[File]:
    is_local = storage.is_local(info.url)
    found = tars.members(info.url) if is_local else tars.remote_members(info.url, info.num_bytes, info.checksum)
    for member in found:
        if not storage.is_hidden(member.name):
            relative = check_utf8(f"{location}/{member.name}")
            yield File(relative, member.num_bytes, location=location, offset=member.offset)


@dataclass
class _PictureFolder:
    """What is known of the pictures of a folder whose listing has not ended. Its memory does not grow with them."""

    folder: str
    num_pictures: int = 0
    num_bytes: int = 0
    has_videos: bool = False
    forms: set[tuple[str, str]] = field(default_factory=set)
    """Names without their number, at most two of them."""

    @property
    def prefix(self) -> str:
        """What the folder of every file below this one begins with."""
        return f"{self.folder}/" if self.folder else ""

    def add(self, file: File) -> None:
        """Count a picture or a video of the folder."""
        if file.is_video:
            self.has_videos = True
            return
        self.num_pictures += 1
        self.num_bytes += file.num_bytes
        if len(self.forms) < 2:
            name = PurePosixPath(file.relative)
            self.forms.add((_NUMBER_AT_END.sub("0", name.stem), name.suffix.lower()))

    def files(self) -> Iterator[File]:
        """Yield the folder of frames, if it is one: pictures and no videos."""
        if self.num_pictures and not self.has_videos:
            is_numbered = len(self.forms) == 1 and self.num_pictures > 1
            yield File(f"{self.folder or '.'}/", self.num_bytes, is_numbered=is_numbered)


def check_utf8(name: str) -> str:
    """Return `name`. Raises ValueError when it is not valid UTF-8, which Parquet cannot store."""
    if name.isascii():
        return name
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = name.encode("utf-8", "backslashreplace").decode()
        raise ValueError(f"{shown} is no valid UTF-8 name and cannot be recorded: rename it") from None
    return name
