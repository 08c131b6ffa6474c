"""Arguments of `sfumato animate` (paths, URLs, folders, globs) -> named sources and drivers."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from glob import glob, has_magic
from pathlib import PurePosixPath
from typing import Literal

from pipelines import storage
from pipelines.media.container import VIDEO_SUFFIXES
from pipelines.one_line import one_line

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
Kind = Literal["avatar", "picture", "driver"]

_MANIFEST = "manifest.json"
_MAX_NAME_BYTES = 80
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Input:
    """A source or a driver. `name` is its part of the results' file names."""

    kind: Kind
    url: str
    name: str
    sha256: str
    """Of the file; for an avatar, of its manifest, which holds the hashes of its other files."""


@dataclass(frozen=True)
class Problem:
    """An input that cannot be read: its path or URL, and the reason on one line."""

    url: str
    reason: str


@dataclass(frozen=True)
class FoundInputs:
    """Inputs that can be read, and those that cannot."""

    inputs: tuple[Input, ...]
    problems: tuple[Problem, ...]


def find_sources(arguments: Sequence[str]) -> FoundInputs:
    """Find avatar folders, pictures, and folders of either, in the given order without repeats.

    Raises:
        FileNotFoundError: a path that does not exist, a pattern that matches nothing.
    """
    return _collect(arguments, _sources_in)


def find_drivers(arguments: Sequence[str]) -> FoundInputs:
    """Find driver videos and folders of them, in the given order without repeats.

    Raises:
        FileNotFoundError: a path that does not exist, a pattern that matches nothing.
    """
    return _collect(arguments, _drivers_in)


def _sources_in(path: str) -> list[tuple[Kind, str]]:
    if not storage.is_folder(path):
        return [("picture", path)]
    listed = (url for url in storage.list(path) if not storage.is_hidden(storage.relative(url, path)))
    avatars = [url.rpartition("/")[0] for url in listed if url.endswith("/" + _MANIFEST)]
    found: list[tuple[Kind, str]] = [("avatar", url) for url in avatars]
    if not storage.exists(storage.join(path, _MANIFEST)):  # the pictures inside an avatar are not sources
        found += [("picture", url) for url in _files(path, PICTURE_SUFFIXES)]
    if not found:
        raise ValueError(f"{path} holds neither avatars nor pictures ({', '.join(PICTURE_SUFFIXES)})")
    return found


def _drivers_in(path: str) -> list[tuple[Kind, str]]:
    files = _files(path, tuple(VIDEO_SUFFIXES)) if storage.is_folder(path) else [path]
    if not files:
        raise ValueError(f"{path} holds no videos ({', '.join(sorted(VIDEO_SUFFIXES))})")
    return [("driver", url) for url in files]


def _collect(arguments: Sequence[str], list_inputs: Callable[[str], list[tuple[Kind, str]]]) -> FoundInputs:
    inputs: list[Input] = []
    problems: list[Problem] = []
    for path in _expand(arguments):
        try:
            for kind, url in list_inputs(path):
                try:
                    inputs.append(read_input(kind, url))
                except (ValueError, OSError) as error:
                    problems.append(Problem(url, error_line(error)))
        except ValueError as error:
            problems.append(Problem(path, error_line(error)))
    return FoundInputs(tuple(_unique_names(inputs)), tuple(problems))


def _expand(arguments: Sequence[str]) -> list[str]:
    paths: list[str] = []
    for argument in arguments:
        if storage.exists(argument):  # before globbing: a file may be named "take[1].mp4"
            paths.append(argument)
        elif storage.is_local(argument) and has_magic(argument) and (matches := _matches(argument)):
            paths += matches
        else:
            raise FileNotFoundError(f"{argument} does not exist")
    return paths


def _matches(pattern: str) -> list[str]:
    return sorted(glob(pattern))  # noqa: PTH207 - Path.glob takes no absolute pattern


def _files(folder: str, suffixes: tuple[str, ...]) -> list[str]:
    found = (url for url in storage.list(folder, recursive=False) if url.lower().endswith(suffixes))
    return [url for url in found if not storage.is_hidden(storage.relative(url, folder))]


def read_input(kind: Kind, url: str) -> Input:
    """Return the input at `url`, named after its file or, for an avatar, after its folder.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no regular file.
    """
    file_url = storage.join(url, _MANIFEST) if kind == "avatar" else url
    if storage.is_local(file_url) and not storage.local_path(file_url).is_file():
        raise ValueError(f"{url} is no regular file")  # reading a FIFO or a device would never end
    digest = hashlib.sha256()
    with storage.open(file_url) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    path = PurePosixPath(url.rstrip("/"))
    return Input(kind, url, safe_name(path.name if kind == "avatar" else path.stem), digest.hexdigest())


def error_line(error: BaseException) -> str:
    """Return the error's message on one line, or its class name when it has none."""
    return one_line(error) or type(error).__name__


def safe_name(text: str) -> str:
    """Make `text` safe in a file name: letters, digits, spaces and ._- only, 80 bytes, no leading dash or dot."""
    name = re.sub(r"[^\w .\-]", "_", text).strip()
    name = re.sub(r"^[-.]+", "_", name) or "_"
    return name.encode()[:_MAX_NAME_BYTES].decode(errors="ignore")


def _unique_names(inputs: Sequence[Input]) -> list[Input]:
    """Drop repeated inputs and append 8 digits of the hash to names that several inputs share."""
    unique = list({(item.url.rstrip("/")): item for item in inputs}.values())
    uses = Counter(item.name for item in unique)
    renamed = [replace(item, name=f"{item.name}-{item.sha256[:8]}") if uses[item.name] > 1 else item for item in unique]
    by_name = {item.name: item for item in renamed}  # drops the same file under two paths
    return list(by_name.values())
