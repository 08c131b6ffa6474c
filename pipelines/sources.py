"""Find the clips of a corpus: a flat folder, VoxCeleb's identity/video/clip trees, a JSONL or CSV manifest."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from pipelines import storage
from pipelines.media import VIDEO_SUFFIXES
from pipelines.schema import SPLITS, ClipKey

Layout = Literal["auto", "flat", "voxceleb", "manifest"]
_VOXCELEB_IDENTITY = re.compile(r"id\d{5}$")
_MANIFEST_COLUMNS = frozenset({"path", "identity", "video", "clip", "split"})


@dataclass(frozen=True)
class Source:
    """One input clip. `relative` is its path inside the corpus (recorded in shards), `url` where it can be read."""

    key: ClipKey
    url: str
    relative: str
    num_bytes: int
    split: str | None = None


def find_sources(src: str, layout: Layout = "auto") -> tuple[Source, ...]:
    """List the clips under `src`: a folder, one video file, or a manifest (.jsonl, .csv).

    Raises:
        FileNotFoundError: `src`, or a file that a manifest names, does not exist.
        ValueError: no video in it, a layout that does not fit, a broken manifest, or two clips of one key.
    """
    if not storage.exists(src):
        raise FileNotFoundError(f"{src} does not exist")
    folder = storage.is_folder(src)
    suffix = PurePosixPath(src).suffix.lower()
    if layout == "auto":
        layout = "manifest" if not folder and suffix in (".jsonl", ".csv") else "auto"
    if layout == "manifest":
        if folder:
            raise ValueError(f"{src} is a folder; a manifest is a .jsonl or .csv file")
        sources = _from_manifest(src)
    elif folder:
        sources = _from_folder(src, layout)
    elif suffix in VIDEO_SUFFIXES:
        sources = [_flat_source(src, PurePosixPath(src).name, Counter())]
    else:
        raise ValueError(f"{src} is neither a folder, a video ({', '.join(sorted(VIDEO_SUFFIXES))}) nor a manifest")
    _check_unique(sources)
    return tuple(sorted(sources, key=lambda source: source.key))


def _from_folder(src: str, layout: Layout) -> list[Source]:
    files = [url for url in storage.list(src) if PurePosixPath(url).suffix.lower() in VIDEO_SUFFIXES]
    relative = {url: url[len(src.rstrip("/")) :].lstrip("/") for url in files}
    # Hidden files are other programs' (macOS puts "._clip.mp4" beside each clip).
    visible = [url for url in files if not any(part.startswith(".") for part in PurePosixPath(relative[url]).parts)]
    if not visible:
        raise ValueError(f"no video in {src} (looked for {', '.join(sorted(VIDEO_SUFFIXES))})")
    parts = {url: PurePosixPath(relative[url]).parts for url in visible}
    if layout == "auto":
        looks = all(len(p) == 3 for p in parts.values()) or all(
            len(p) >= 3 and _VOXCELEB_IDENTITY.match(p[-3]) for p in parts.values()
        )
        layout = "voxceleb" if looks else "flat"
    if layout == "voxceleb":
        for url, p in parts.items():
            if len(p) < 3:
                raise ValueError(f"{url} is not at identity/video/clip.mp4 below {src}, as layout voxceleb asks")
        return [
            Source(ClipKey(p[-3], p[-2], PurePosixPath(p[-1]).stem), url, relative[url], storage.size(url))
            for url, p in parts.items()
        ]
    stems = Counter(str(PurePosixPath(relative[url]).with_suffix("")) for url in visible)
    return [_flat_source(url, relative[url], stems) for url in visible]


def _flat_source(url: str, relative: str, stems: Counter[str]) -> Source:
    path = PurePosixPath(relative)
    stem = str(path.with_suffix(""))
    # a.mp4 beside a.mov: two films, not two takes of one.
    name = str(path) if stems[stem] > 1 else stem
    name = name.replace("/", "_")
    return Source(ClipKey(name, name, "0"), url, relative, storage.size(url))


def _from_manifest(src: str) -> list[Source]:
    text = storage.read_bytes(src).decode("utf-8-sig")
    rows = _csv_rows(text) if PurePosixPath(src).suffix.lower() == ".csv" else _json_rows(src, text)
    sources = [_manifest_source(src, number, row) for number, row in rows]
    if not sources:
        raise ValueError(f"{src} names no clip")
    return sources


def _csv_rows(text: str) -> list[tuple[int, Mapping[str, object]]]:
    return [(number, dict(row)) for number, row in enumerate(csv.DictReader(io.StringIO(text)), start=2)]


def _json_rows(src: str, text: str) -> list[tuple[int, Mapping[str, object]]]:
    rows: list[tuple[int, Mapping[str, object]]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{src} line {number} is not JSON: {error.msg}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{src} line {number} is not an object")
        rows.append((number, row))
    return rows


def _manifest_source(src: str, number: int, row: Mapping[str, object]) -> Source:
    where = f"{src} line {number}"
    unknown = set(row) - _MANIFEST_COLUMNS
    if unknown:
        raise ValueError(
            f"{where}: unknown column {sorted(map(str, unknown))[0]!r}; known: path, identity, video, clip, split"
        )
    values = {name: str(value) for name, value in row.items() if value not in (None, "")}
    if "path" not in values:
        raise ValueError(f"{where}: no path")
    path = values["path"]
    absolute = "://" in path or path.startswith("/")
    url = (
        path
        if absolute
        else storage.join(str(PurePosixPath(src).parent) if "://" not in src else src.rpartition("/")[0], path)
    )
    if not storage.exists(url):
        raise FileNotFoundError(f"{where}: {url} does not exist")
    split = values.get("split")
    if split is not None and split not in SPLITS:
        raise ValueError(f"{where}: split must be one of {', '.join(SPLITS)}, got {split!r}")
    stem = PurePosixPath(path).stem
    try:
        key = ClipKey(values.get("identity", stem), values.get("video", stem), values.get("clip", "0"))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    # An absolute path says where this machine keeps the file, not what it is.
    relative = PurePosixPath(path).name if path.startswith("/") else path
    return Source(key, url, relative, storage.size(url), split)


def _check_unique(sources: Sequence[Source]) -> None:
    seen: dict[ClipKey, str] = {}
    for source in sources:
        if source.key in seen:
            raise ValueError(f"{seen[source.key]} and {source.relative} have the same key {source.key}")
        seen[source.key] = source.relative
