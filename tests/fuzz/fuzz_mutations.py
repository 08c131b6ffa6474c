"""Mutations of files that know their structure: boxes of MP4, elements of Matroska, segments of JPEG, chunks of PNG.

A file that is damaged anywhere is mostly refused by the first check of its parser. One whose parts are moved, repeated,
resized or given extreme numbers, with lengths and checksums mended, is read much further.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence

_BOXES_WITH_CHILDREN = {
    b"moov",
    b"trak",
    b"mdia",
    b"minf",
    b"stbl",
    b"edts",
    b"dinf",
    b"udta",
    b"moof",
    b"traf",
    b"mvex",
}
_EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_WORDS = (
    b"nan",
    b"1e999",
    b"-1",
    b'"',
    b"''",
    b"\x00",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"a" * 5000,
    b"../../x",
    b"{}",
    b",",
    b"::",
)
_MAX_DEPTH = 8


def mutate(name: str, data: bytes, chance: random.Random) -> bytes:
    """Return a copy of a file with one to four mutations, by its kind and anywhere."""
    by_kind = _mutation_of(name)
    for _ in range(chance.randint(1, 4)):
        data = (by_kind if chance.random() < 0.8 else _anywhere)(data, chance)
    return data


def _mutation_of(name: str) -> Callable[[bytes, random.Random], bytes]:
    match name.rpartition(".")[2]:
        case "mp4" | "mov":
            return _boxes
        case "webm" | "mkv":
            return _elements
        case "jpg":
            return _segments
        case "png":
            return _chunks
        case "csv" | "jsonl":
            return _text
    return _anywhere


def _anywhere(data: bytes, chance: random.Random) -> bytes:
    if not data:
        return b"\0"
    at = chance.randrange(len(data))
    match chance.randrange(5):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]
        case 2:
            return _with_extreme(data, chance)
        case 3:
            length = chance.randint(1, 64)
            return data[:at] + data[at + length :]
        case _:
            length = chance.randint(1, 64)
            return data[:at] + data[at : at + length] * chance.randint(1, 20) + data[at:]


def _with_extreme(data: bytes, chance: random.Random) -> bytes:
    """Set a number of one, two, four or eight bytes to an extreme value."""
    form = chance.choice([">B", ">H", ">I", "<I", ">Q"])
    size = struct.calcsize(form)
    if len(data) < size:
        return data
    at = chance.randrange(len(data) - size + 1)
    value = chance.choice(_EXTREMES) % (1 << (8 * size))
    return data[:at] + struct.pack(form, value) + data[at + size :]


def _rearranged(parts: Sequence[bytes], chance: random.Random, inside: Callable[[bytes], bytes]) -> list[bytes]:
    """Drop, repeat, swap or change one of the parts."""
    parts = list(parts)
    if not parts:
        return parts
    at = chance.randrange(len(parts))
    match chance.randrange(6):
        case 0:
            del parts[at]
        case 1:
            parts.insert(at, parts[at])
        case 2:
            other = chance.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        case _:
            parts[at] = inside(parts[at])
    return parts


def _boxes(data: bytes, chance: random.Random, depth: int = 0) -> bytes:
    """Mutate MP4's tree of boxes: 4 bytes size, 4 bytes type, contents. Sizes are mended, mostly."""
    parts, at = [], 0
    while at + 8 <= len(data):
        size = struct.unpack_from(">I", data, at)[0]
        size = size if 8 <= size <= len(data) - at else len(data) - at
        parts.append(data[at : at + size])
        at += size

    def inside(box: bytes) -> bytes:
        kind, body = box[4:8], box[8:]
        if kind in _BOXES_WITH_CHILDREN and depth < _MAX_DEPTH:
            body = _boxes(body, chance, depth + 1)
        elif chance.random() < 0.1:
            kind = chance.choice([b"free", b"mdat", b"moov", b"trak", b"stco", b"elst"])
        else:
            body = _anywhere(body, chance)
        size = len(body) + 8 if chance.random() < 0.9 else chance.choice(_EXTREMES)
        return struct.pack(">I", size) + kind + body

    return b"".join(_rearranged(parts, chance, inside)) + data[at:]


def _elements(data: bytes, chance: random.Random, depth: int = 0) -> bytes:
    """Mutate Matroska's tree of elements: variable-length id and size, contents (RFC 8794)."""
    parts, at = [], 0
    while at < len(data):
        head = _element_head(data, at)
        if head is None:
            break
        _, end = head
        parts.append(data[at:end])
        at = end

    def inside(element: bytes) -> bytes:
        head = _element_head(element, 0)
        if head is None:
            return _anywhere(element, chance)
        start, _ = head
        id_bytes, body = element[: _length(element[0])], element[start:]
        is_parent = _element_head(body, 0) is not None and len(body) > 12 and depth < _MAX_DEPTH
        body = _elements(body, chance, depth + 1) if is_parent and chance.random() < 0.7 else _anywhere(body, chance)
        size = len(body) if chance.random() < 0.9 else chance.choice(_EXTREMES)
        return id_bytes + struct.pack(">Q", (1 << 56) | size) + body

    return b"".join(_rearranged(parts, chance, inside)) + data[at:]


def _length(first: int) -> int:
    """Return the number of bytes of a variable-length number that begins with this byte."""
    return 9 - first.bit_length()


def _element_head(data: bytes, at: int) -> tuple[int, int] | None:
    """Return where the contents of the element at `at` begin and end; None where there is none."""
    if at >= len(data) or not 1 <= _length(data[at]) <= 4:
        return None
    size_at = at + _length(data[at])
    if size_at >= len(data) or not 1 <= _length(data[size_at]) <= 8:
        return None
    width = _length(data[size_at])
    size = int.from_bytes(data[size_at : size_at + width]) & ((1 << (7 * width)) - 1)
    start = size_at + width
    unknown = size == (1 << (7 * width)) - 1
    return (start, len(data)) if unknown or start + size > len(data) else (start, start + size)


def _segments(data: bytes, chance: random.Random) -> bytes:
    """Mutate JPEG's segments: marker, 2 bytes length, contents; what follows the start of scan stays whole."""
    parts, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        size = 2 + struct.unpack_from(">H", data, at + 2)[0]
        parts.append(data[at : at + size])
        at += size

    def inside(segment: bytes) -> bytes:
        body = _anywhere(segment[4:], chance)[:65533]
        return segment[:2] + struct.pack(">H", len(body) + 2) + body

    return data[:2] + b"".join(_rearranged(parts, chance, inside)) + data[at:]


def _chunks(data: bytes, chance: random.Random) -> bytes:
    """Mutate PNG's chunks: 4 bytes length, type, contents, checksum (mended)."""
    parts, at = [], 8
    while at + 12 <= len(data):
        size = 12 + struct.unpack_from(">I", data, at)[0]
        parts.append(data[at : at + size])
        at += size

    def inside(chunk: bytes) -> bytes:
        kind, body = chunk[4:8], _anywhere(chunk[8:-4], chance)
        if chance.random() < 0.1:
            kind = chance.choice([b"IDAT", b"PLTE", b"tRNS", b"iCCP", b"zTXt", b"acTL", b"eXIf"])
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return data[:8] + b"".join(_rearranged(parts, chance, inside)) + data[at:]


def _text(data: bytes, chance: random.Random) -> bytes:
    """Mutate lines and cells of a manifest."""
    lines = data.split(b"\n")

    def inside(line: bytes) -> bytes:
        cells = _rearranged(line.split(b","), chance, lambda cell: chance.choice(_WORDS) + chance.choice([b"", cell]))
        return b",".join(cells)

    return b"\n".join(_rearranged(lines, chance, inside))
