"""Read byte ranges of local and remote files, and download whole files in blocks."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from pipelines.storage.byte_ranges import Span, merge_ranges
from pipelines.storage.urls import is_local, local_path, request, resolve

_BLOCK_BYTES = 16 * 2**20


def ranges(urls: Sequence[str], starts: Sequence[int], lengths: Sequence[int]) -> Sequence[bytes]:
    """Return byte ranges of files, in the order of the arguments. Neighbours share a request: see `merge_ranges`.

    Raises:
        FileNotFoundError: a file is missing.
        OSError: a file ends too early.
    """
    if not urls:
        return []
    spans, places = merge_ranges(urls, starts, lengths)
    local = urls[0].startswith("/") or is_local(urls[0])
    pieces = _local_ranges(spans) if local else _remote_ranges(spans)
    parts = []
    for url, start, length, place in zip(urls, starts, lengths, places, strict=True):
        offset = start - spans[place].start
        part = pieces[place][offset : offset + length]
        if len(part) != length:
            raise OSError(f"{url} ends early: {len(part)} of {length} bytes at offset {start}")
        parts.append(part)
    return parts


def _remote_ranges(spans: Sequence[Span]) -> Sequence[bytes]:
    filesystem, path = resolve(spans[0].url)
    if len(spans) == 1:  # a call for several costs half as much CPU time again
        (span,) = spans
        read = functools.partial(filesystem.cat_file, path, start=span.start, end=span.end)
        return [bytes(request(filesystem, span.url, read))]
    paths = {span.url: resolve(span.url)[1] for span in spans}
    files, starts, ends = [paths[s.url] for s in spans], [s.start for s in spans], [s.end for s in spans]
    # All in one call; those that fail are then read one by one, with retries and with their own URL in the error.
    pieces = [*filesystem.cat_ranges(files, starts, ends, on_error="return")]
    for i, span in enumerate(spans):
        if isinstance(pieces[i], Exception):
            read = functools.partial(filesystem.cat_file, files[i], start=span.start, end=span.end)
            pieces[i] = request(filesystem, span.url, read)
    return [bytes(piece) for piece in pieces]


def _local_ranges(spans: Sequence[Span]) -> Sequence[bytes]:
    # fsspec's cat_ranges opens the file once per range.
    handles: dict[str, int] = {}
    try:
        for span in spans:
            if span.url not in handles:
                path = span.url if span.url.startswith("/") else local_path(span.url)
                handles[span.url] = os.open(path, os.O_RDONLY)
        return [os.pread(handles[span.url], span.end - span.start, span.start) for span in spans]
    finally:
        for handle in handles.values():
            os.close(handle)


def download(url: str, target: Path, num_bytes: int) -> str:
    """Copy the file at `url` to a local path, front to back in blocks of 16 MiB; return its sha256 in hex.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it is shorter than `num_bytes`.
    """
    digest = hashlib.sha256()
    with target.open("wb") as sink:
        for start in range(0, num_bytes, _BLOCK_BYTES):
            (block,) = ranges([url], [start], [min(_BLOCK_BYTES, num_bytes - start)])
            digest.update(block)
            sink.write(block)
    return digest.hexdigest()
