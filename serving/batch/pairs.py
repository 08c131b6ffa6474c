"""Pairs of sources and drivers from a CSV or JSON Lines file. Everything in it is checked before any work begins."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter, ValidationError

from pipelines import storage
from pipelines.faces.identity.face_choice import FaceChoice, parse_face_choice
from pipelines.one_line import one_line
from serving.batch.inputs import Input, Kind, read_input, safe_name, source_kind
from serving.batch.items import FILM_PARTS, AvatarSource, Item, default_name, options_for
from training.animation.motion.text_table import csv_rows, decode_text

if TYPE_CHECKING:
    from training.animation.render import RenderOptions

REQUIRED = ("source", "driver")
_MOTION = ("expression", "head_motion", "gaze", "smoothing")
_SUFFIXES_OF_RESULTS = (".side-by-side", ".mosaic")
_NUM_READERS = 16


class PairsError(ValueError):
    """The file is wrong; the message names it, the line and the reason."""


@dataclass(frozen=True)
class PairOptions:
    """The columns of a pair; an empty cell, or null, stands for the value of the command's flag."""

    source: str
    driver: str
    name: str | None = None
    expression: float | None = None
    head_motion: float | None = None
    gaze: float | None = None
    smoothing: float | None = None
    frame: Literal["full", "crop"] | None = None
    max_size: int | None = None
    fps: str | float | None = None
    parts: str | tuple[str, ...] | None = None
    motion: Literal["relative", "absolute"] | None = None
    face: str | float | None = None
    driver_face: str | float | None = None
    on_missing: Literal["fill", "hold", "rest", "cut", "fail"] | None = None
    sound: Literal["auto", "driver", "source", "none"] | None = None


COLUMNS = tuple(PairOptions.__dataclass_fields__)
_PAIR: TypeAdapter[PairOptions] = TypeAdapter(PairOptions)


@dataclass(frozen=True)
class _Line:
    """A row of the file: its line number, counted from 1, and its non-empty cells."""

    number: int
    cells: Mapping[str, Any]


def read_pairs(
    url: str, options: RenderOptions, face: FaceChoice | None, film_parts: tuple[str, ...] = FILM_PARTS
) -> tuple[Item, ...]:
    """Read the items of a pairs file. Relative paths in it are relative to its folder.

    Args:
        url: path or URL that ends with .csv or .jsonl.
        options: for columns that the file does not have and cells that are empty; `face` likewise.
        film_parts: the parts of a film that are driven where its row names none.

    Raises:
        FileNotFoundError: there is no such file.
        PairsError: it, or a file that it names, cannot be used.
    """
    if not url.lower().endswith((".csv", ".jsonl")):
        raise PairsError(f"{url}: the name of a pairs file ends with .csv or .jsonl")
    if not storage.exists(url):
        raise FileNotFoundError(f"{url} does not exist")
    try:
        text = decode_text(url, storage.read_bytes(url))
    except ValueError as error:
        raise PairsError(str(error)) from None
    lines = list(_csv_lines(url, text) if url.lower().endswith(".csv") else _json_lines(url, text))
    if not lines:
        raise PairsError(f"{url}: no pairs")
    pairs = [(line.number, _pair(url, line)) for line in lines]
    faces = [_face(url, number, pair, face) for number, pair in pairs]
    rendered = [_render_options(url, number, pair, options) for number, pair in pairs]
    inputs = _read_inputs(url, pairs)
    items = [
        _item(pair, (inputs["source", pair.source], inputs["driver", pair.driver]), its_options, its_face, film_parts)
        for (_, pair), its_options, its_face in zip(pairs, rendered, faces, strict=True)
    ]
    _check_names(url, [(number, item) for (number, _), item in zip(pairs, items, strict=True)])
    return tuple(_with_unique_sources(items))


def _csv_lines(url: str, text: str) -> Iterator[_Line]:
    columns: Sequence[str] | None = None
    try:
        for number, cells in csv_rows(url, text):
            if columns is None:
                columns = cells
                _check_columns(url, number, columns)
            else:
                yield _Line(number, {name: cell for name, cell in zip(columns, cells, strict=False) if cell})
    except PairsError:
        raise
    except ValueError as error:
        raise PairsError(str(error)) from None


def _check_columns(url: str, number: int, columns: Sequence[str]) -> None:
    for name in columns:
        if name not in COLUMNS:
            raise PairsError(f"{url} line {number}: unknown column {name!r}; known: {', '.join(COLUMNS)}")
        if columns.count(name) > 1:
            raise PairsError(f"{url} line {number}: column {name!r} is there twice")
    for name in REQUIRED:
        if name not in columns:
            raise PairsError(f"{url} line {number}: column {name!r} is missing")


def _json_lines(url: str, text: str) -> Iterator[_Line]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise PairsError(f"{url} line {number}: no JSON: {error}") from None
        if not isinstance(row, dict):
            raise PairsError(f"{url} line {number}: no JSON object")
        for name in row:
            if name not in COLUMNS:
                raise PairsError(f"{url} line {number}: unknown column {name!r}; known: {', '.join(COLUMNS)}")
        for name in REQUIRED:
            if name not in row:
                raise PairsError(f"{url} line {number}: column {name!r} is missing")
        yield _Line(number, {name: value for name, value in row.items() if value not in (None, "")})


def _pair(url: str, line: _Line) -> PairOptions:
    for name in REQUIRED:
        if name not in line.cells:
            raise PairsError(f"{url} line {line.number}: the cell {name!r} is empty")
    for name, value in line.cells.items():
        if isinstance(value, bool):  # which pydantic takes for a number
            raise PairsError(f"{url} line {line.number}: {name}: {json.dumps(value)} is no value")
    try:
        pair = _PAIR.validate_python(line.cells)
    except ValidationError as error:
        first = error.errors()[0]
        column, value = first["loc"][0], one_line(first["input"], 80)
        raise PairsError(f"{url} line {line.number}: {column}: {first['msg']}, got {value!r}") from None
    if pair.name is not None and (pair.name != safe_name(pair.name) or pair.name.endswith(_SUFFIXES_OF_RESULTS)):
        raise PairsError(
            f"{url} line {line.number}: name: {one_line(pair.name, 80)!r} is no name for files: letters, digits, spaces"
            " and ._- only, 80 bytes, no leading dash or dot, no ending .mosaic or .side-by-side"
        )
    return pair


def _render_options(url: str, number: int, pair: PairOptions, options: RenderOptions) -> RenderOptions:
    from training.animation.retarget import parse_parts

    given = {name: value for name, value in vars(pair).items() if value is not None}
    try:
        moves = {name: given[name] for name in _MOTION if name in given}
        if "parts" in given:
            parts = given["parts"]
            moves["parts"] = parse_parts(parts if isinstance(parts, str) else " ".join(parts))
        if "motion" in given:
            moves["absolute"] = given["motion"] == "absolute"
        motion = replace(options.motion, **moves)
        more: dict[str, Any] = {
            name: given[name] for name in ("frame", "max_size", "on_missing", "sound") if name in given
        }
        more |= {name: _written(given[name]) for name in ("fps", "driver_face") if name in given}
        return replace(options, motion=motion, **more)
    except ValueError as error:
        raise PairsError(f"{url} line {number}: {error}") from None


def _face(url: str, number: int, pair: PairOptions, face: FaceChoice | None) -> FaceChoice | None:
    if pair.face is None:
        return face
    try:
        return parse_face_choice(_written(pair.face))
    except ValueError as error:
        raise PairsError(f"{url} line {number}: {error}") from None


def _written(value: str | float) -> str:
    """Return a cell as it is written in CSV; JSON has numbers."""
    return value if isinstance(value, str) else f"{value:.12g}"


def _read_inputs(url: str, pairs: Sequence[tuple[int, PairOptions]]) -> dict[tuple[str, str], Input]:
    """Return the inputs of all pairs by column and cell. The first line with one that cannot be read is an error."""
    first: dict[tuple[str, str], int] = {}
    for number, pair in pairs:
        first.setdefault(("source", pair.source), number)
        first.setdefault(("driver", pair.driver), number)
    folder = storage.parent(url)

    def read(key: tuple[str, str]) -> Input | PairsError:
        column, cell = key
        try:
            return _read_input(column, cell if _is_absolute(cell) else storage.join(folder, cell))
        except (ValueError, OSError) as error:
            return PairsError(f"{url} line {first[key]}: {column}: {_reason(error)}")

    with ThreadPoolExecutor(_NUM_READERS) as readers:
        read_inputs = dict(zip(first, readers.map(read, first), strict=True))
    for found in read_inputs.values():
        if isinstance(found, PairsError):
            raise found
    return {key: found for key, found in read_inputs.items() if isinstance(found, Input)}


def _is_absolute(path: str) -> bool:
    return "://" in path or path.startswith("/")


def _read_input(column: str, url: str) -> Input:
    kind: Kind = "driver" if column == "driver" else source_kind(url)
    if not storage.exists(url):
        raise FileNotFoundError(f"{url} does not exist")
    if storage.is_folder(url):
        if column == "driver" or not storage.exists(storage.join(url, "manifest.json")):
            raise ValueError(f"{url} is a folder" + (" and no avatar" if column == "source" else ""))
        kind = "avatar"
    return read_input(kind, url)


def _reason(error: ValueError | OSError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return one_line(error)


def _item(
    pair: PairOptions,
    inputs: tuple[Input, Input],
    options: RenderOptions,
    face: FaceChoice | None,
    film_parts: tuple[str, ...],
) -> Item:
    source, driver = inputs
    options = options_for(source, options, options.motion.parts if pair.parts else film_parts)
    name = pair.name or default_name(source, driver)
    return Item(name, AvatarSource(source, face), driver, options, has_own_name=pair.name is not None)


def _check_names(url: str, items: Sequence[tuple[int, Item]]) -> None:
    """Refuse two lines that would write the same files."""
    lines: dict[str, int] = {}
    for number, item in items:
        if item.name in lines:
            raise PairsError(
                f"{url} lines {lines[item.name]} and {number}: both make {item.name}.mp4; give them different names"
            )
        lines[item.name] = number


def _with_unique_sources(items: Sequence[Item]) -> Iterator[Item]:
    """Tell sources of one name apart by 8 digits of their hashes, for the names of avatars and mosaics.

    Two paths to files of the same name and content are one source, whose avatar is made once.
    """
    sources: dict[str, dict[str, Input]] = {}
    for item in items:
        source = item.source.input
        sources.setdefault(source.name, {}).setdefault(source.sha256, source)
    for item in items:
        namesakes = sources[item.source.input.name]
        source = namesakes[item.source.input.sha256]
        if len(namesakes) > 1:
            source = replace(source, name=f"{source.name}-{source.sha256[:8]}")
        yield replace(item, source=replace(item.source, input=source))
