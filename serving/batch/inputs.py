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
from pipelines.media.images import PICTURE_SUFFIXES
from pipelines.one_line import one_line
from serving.batch.folders import choose_files, is_kept_avatar, visible_files
from training.animation.motion.formats import MOTION_FILE

Kind = Literal["avatar", "picture", "film", "driver"]

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
    notes: tuple[str, ...] = ()
    """One line for each folder with files that are left out."""


@dataclass(frozen=True)
class _Listing:
    """What an argument holds, and what of it is left out."""

    found: Sequence[tuple[Kind, str]]
    notes: tuple[str, ...] = ()


def find_sources(arguments: Sequence[str]) -> FoundInputs:
    """Find avatar folders, pictures, folders of either, and films, in the given order without repeats.

    A film is a source only by its own name or a pattern: a folder's films may be drivers.

    Raises:
        FileNotFoundError: a path that does not exist, a pattern that matches nothing.
    """
    return _collect(arguments, _sources_in)


def find_drivers(arguments: Sequence[str]) -> FoundInputs:
    """Find driver videos, files of motion, and folders of videos and motion files, in the given order without repeats.

    Raises:
        FileNotFoundError: a path that does not exist, a pattern that matches nothing.
    """
    return _collect(arguments, _drivers_in)


def _sources_in(path: str) -> _Listing:
    if not storage.is_folder(path):
        return _Listing([(source_kind(path), path)])
    if storage.exists(storage.join(path, _MANIFEST)):  # the pictures inside an avatar are not sources
        return _Listing([("avatar", path)])
    files = visible_files(path)
    avatars = [name.rpartition("/")[0] for name in files if name.endswith("/" + _MANIFEST)]
    own = {name for name in avatars if is_kept_avatar(name, files)}
    others = [name for name in files if not name.startswith(tuple(f"{avatar}/" for avatar in avatars))]
    found: list[tuple[Kind, str]] = [("avatar", storage.join(path, name)) for name in avatars if name not in own]
    pictures = choose_files(path, others, PICTURE_SUFFIXES)
    found += [("picture", url) for url in pictures.found]
    if not found:
        raise ValueError(f"{path} holds neither avatars nor pictures ({', '.join(sorted(PICTURE_SUFFIXES))})")
    return _Listing(found, pictures.notes("pictures", num_avatars=len(own)))


def source_kind(url: str) -> Kind:
    """Return the kind of a file as a source, by its name: what may be a picture is one, an animated GIF, too."""
    suffix = PurePosixPath(storage.name(url)).suffix.lower()
    return "film" if suffix in VIDEO_SUFFIXES - PICTURE_SUFFIXES else "picture"


def _drivers_in(path: str) -> _Listing:
    if not storage.is_folder(path):
        return _Listing([("driver", path)])
    videos = choose_files(path, visible_files(path), VIDEO_SUFFIXES | {MOTION_FILE})
    if not videos.found:
        raise ValueError(f"{path} holds no videos ({', '.join(sorted(VIDEO_SUFFIXES))})")
    return _Listing([("driver", url) for url in videos.found], videos.notes("videos"))


def _collect(arguments: Sequence[str], list_inputs: Callable[[str], _Listing]) -> FoundInputs:
    inputs: list[Input] = []
    problems: list[Problem] = []
    notes: list[str] = []
    for path in _expand(arguments):
        try:
            listing = list_inputs(path)
        except ValueError as error:
            problems.append(Problem(one_line(path), error_line(error)))
            continue
        notes += listing.notes
        for kind, url in listing.found:
            try:
                inputs.append(read_input(kind, url))
            except (ValueError, OSError) as error:
                problems.append(Problem(one_line(url), error_line(error)))
    return FoundInputs(tuple(_unique_names(inputs)), tuple(problems), tuple(dict.fromkeys(notes)))


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


def read_input(kind: Kind, url: str) -> Input:
    """Return the input at `url`, named after its file or, for an avatar, after its folder.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no regular file.
    """
    file_url = storage.join(url, _MANIFEST) if kind == "avatar" else url
    storage.check_file(file_url)
    digest = hashlib.sha256()
    with storage.open(file_url) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    name = storage.name(url)
    return Input(kind, url, safe_name(name if kind == "avatar" else PurePosixPath(name).stem), digest.hexdigest())


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
