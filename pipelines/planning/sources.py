"""Find the clips of a corpus: a flat folder, VoxCeleb's folders with their boxes, tars of either, or a manifest.

Listings are lazy: a corpus of a million clips is never held in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath
from typing import Literal

from pipelines import storage
from pipelines.dataset.schema import ClipKey, key_name
from pipelines.media.container import VIDEO_SUFFIXES
from pipelines.planning import manifests, tars
from pipelines.storage import FileInfo

Layout = Literal["auto", "flat", "voxceleb", "manifest"]
_IDENTITY = re.compile(r"id\d{5}$")
_COMPRESSED = (".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
_OFFICIAL_SPLITS = {"test": "test", "val": "val"}  # folders above the identities; others are split by hash


@dataclass(frozen=True, slots=True)
class Source:
    """One input clip, or a whole video that box files cut into clips (its `key.clip` is then `WHOLE_VIDEO`)."""

    key: ClipKey
    relative: str
    """Path inside the corpus, recorded in the shards."""
    num_bytes: int
    split: str | None = None
    """The split that the corpus prescribes."""
    location: str | None = None
    """Path or URL to read it from, if that is not `relative` below the corpus."""
    offset: int | None = None
    """First byte inside the uncompressed tar at `location`."""
    checksum: str | None = None
    """Checksum from the store's listing, if any: equal checksums mean equal content."""
    fallback: str | None = None
    """Name with suffix for identity and video, used when two videos of a flat folder differ only in their suffix."""


@dataclass(frozen=True, slots=True)
class BoxFile:
    """VoxCeleb's text file with the face boxes of one clip."""

    key: ClipKey
    relative: str


WHOLE_VIDEO = "*"
"""Clip name of a source video that its box files will cut into clips."""


def corpus_root(src: str) -> str:
    """Return the folder that relative paths of `src` start from."""
    if storage.is_folder(src):
        return src.rstrip("/") or "/"
    return storage.parent(src)


def find_sources(src: str, layout: Layout = "auto") -> Iterator[Source | BoxFile]:
    """Yield the clips of `src` (a folder, a video, a tar or a manifest), and their box files.

    Raises:
        FileNotFoundError: `src`, or a file that a manifest names, does not exist.
        ValueError: no video in it, a layout that does not fit, or a broken manifest or tar.
    """
    if not storage.exists(src):
        raise FileNotFoundError(f"{src} does not exist")
    folder, suffix = storage.is_folder(src), PurePosixPath(src).suffix.lower()
    if not folder and storage.is_local(src) and not storage.local_path(src).is_file():
        raise ValueError(f"{src} is neither a folder nor a regular file")  # opening a pipe would block
    if layout == "manifest" or (layout == "auto" and not folder and suffix in manifests.SUFFIXES):
        if folder:
            raise ValueError(f"{src} is a folder; a manifest is a .jsonl or .csv file")
        return _from_manifest(src)
    if folder or suffix == ".tar":
        return _from_folder(src, layout)
    if suffix in VIDEO_SUFFIXES:
        return iter([_flat_source(_File(PurePosixPath(src).name, storage.size(src)))])
    raise ValueError(
        f"{src} is neither a folder, a video ({', '.join(sorted(VIDEO_SUFFIXES))}), a .tar nor a manifest (.jsonl, "
        ".csv)"
    )


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the corpus, or a member of a tar in it."""

    relative: str
    num_bytes: int
    checksum: str | None = None
    location: str | None = None
    offset: int | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        return PurePosixPath(self.relative).parts

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.relative).suffix.lower()


def _files(src: str) -> Iterator[_File]:
    """Yield every file that is not hidden (macOS adds a "._clip.mp4" to each clip), and the members of tars."""
    root = corpus_root(src)
    found: Iterable[FileInfo] = (
        storage.walk(src) if storage.is_folder(src) else [FileInfo(src, storage.size(src), None)]
    )
    for info in found:
        relative = info.url[len(root) :].lstrip("/")
        if any(part.startswith(".") for part in PurePosixPath(relative).parts):
            continue
        if not relative.lower().endswith(".tar"):
            yield _File(_check_utf8(relative), info.num_bytes, info.checksum)
            continue
        for member in tars.members(info.url):
            name = _check_utf8(f"{relative}/{member.name}")
            yield _File(name, member.num_bytes, location=_check_utf8(relative), offset=member.offset)


def _check_utf8(name: str) -> str:
    """Return `name`. Raises ValueError when it is not valid UTF-8, which Parquet cannot store."""
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = name.encode("utf-8", "backslashreplace").decode()
        raise ValueError(f"{shown} is no valid UTF-8 name and cannot be recorded: rename it") from None
    return name


def _from_folder(src: str, layout: Layout) -> Iterator[Source | BoxFile]:
    layout = _detect_layout(src) if layout == "auto" else layout
    number = compressed = 0
    for file in _files(src):
        compressed += file.relative.lower().endswith(_COMPRESSED)
        if file.suffix in VIDEO_SUFFIXES:
            number += 1
            yield _voxceleb_source(src, file) if layout == "voxceleb" else _flat_source(file)
        elif layout == "voxceleb" and file.suffix == ".txt" and _is_clip(file.parts):
            yield BoxFile(_key(*_names(file)), file.relative)
    if not number:
        hint = f"; {compressed} compressed archives are not read: unpack them, or repack as .tar" if compressed else ""
        raise ValueError(f"no video in {src} (looked for {', '.join(sorted(VIDEO_SUFFIXES))}{hint})")


def _detect_layout(src: str) -> Layout:
    """Return `voxceleb` if every video is at identity/video/clip.mp4 or its identity is named as VoxCeleb's, else
    `flat`."""
    three_deep = named = True
    for file in _files(src):
        if file.suffix in VIDEO_SUFFIXES:
            parts = file.parts
            three_deep &= len(parts) == 3
            named &= _is_clip(parts) or _is_whole_video(parts)
            if not (three_deep or named):
                break
    return "voxceleb" if three_deep or named else "flat"


def _is_clip(parts: tuple[str, ...]) -> bool:
    return len(parts) >= 3 and bool(_IDENTITY.match(parts[-3]))


def _is_whole_video(parts: tuple[str, ...]) -> bool:
    return len(parts) >= 2 and bool(_IDENTITY.match(parts[-2]))


def _names(file: _File) -> tuple[str, str, str]:
    return file.parts[-3], file.parts[-2], PurePosixPath(file.parts[-1]).stem


def _voxceleb_source(src: str, file: _File) -> Source:
    parts = file.parts
    if _is_whole_video(parts) and not _is_clip(parts):  # identity/video.mp4: published boxes cut it into clips
        key, above = _key(parts[-2], PurePosixPath(parts[-1]).stem, WHOLE_VIDEO), parts[:-2]
    elif len(parts) >= 3:
        key, above = _key(*_names(file)), parts[:-3]
    else:
        raise ValueError(f"{file.relative} is not at identity/video/clip.mp4 below {src}, as layout voxceleb asks")
    split = next((_OFFICIAL_SPLITS[part] for part in above if part in _OFFICIAL_SPLITS), None)
    return Source(key, file.relative, file.num_bytes, split, file.location, file.offset, file.checksum)


def _flat_source(file: _File) -> Source:
    path = PurePosixPath(file.relative)
    short = key_name(str(path.with_suffix("")).replace("/", "_"))
    longer = key_name(str(path).replace("/", "_"))  # a.mp4 and a.mov are two videos
    return Source(
        ClipKey(short, short, "0"),
        file.relative,
        file.num_bytes,
        location=file.location,
        offset=file.offset,
        checksum=file.checksum,
        fallback=longer,
    )


def _from_manifest(src: str) -> Iterator[Source]:
    rows = manifests.read(src)
    first = next(rows, None)
    if first is None:
        raise ValueError(f"{src} names no clip")
    for row in chain([first], rows):
        stem = key_name(PurePosixPath(row.path).stem)
        try:
            key = ClipKey(row.identity or stem, row.video or stem, row.clip or "0")
        except ValueError as error:
            raise ValueError(f"{row.where}: {error}") from error
        # An absolute path depends on this machine: record only the file's name.
        relative = PurePosixPath(row.path).name if row.is_absolute else row.path
        location = row.path if row.is_absolute else None
        yield Source(key, _check_utf8(relative), row.num_bytes, row.split, location)


def _key(identity: str, video: str, clip: str) -> ClipKey:
    return ClipKey(key_name(identity), key_name(video), clip if clip == WHOLE_VIDEO else key_name(clip))
