"""The child process of `pipelines.media.decoder.process`: reads requests, one JSON object per line, and writes answers
of a JSON header and a binary payload."""

from __future__ import annotations

import json
import os
import queue
import resource
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.media import audio, frame_folder, images, video
from pipelines.media.decoder.process import HEADER
from pipelines.media.timestamps import FrameTable, read_frame_table

_OPEN_FILES = 64


def main(memory_bytes: int) -> None:
    """Serve requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent handles it
    _limit(resource.RLIMIT_AS, memory_bytes)
    _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _limit(resource.RLIMIT_CORE, 0)
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    session = _Session()
    _send({"ready": True})
    while True:
        request = json.loads(requests.get())
        try:
            for header, payload in session.answer(request):
                _send(header, payload)
            _send({"end": True})
        except Exception as error:  # noqa: BLE001 - any error is an answer; the parent decides what it means
            # Unchanged text: the parent has to find the path in it.
            _send({"error": str(error) or type(error).__name__, "kind": type(error).__name__})


def _limit(what: int, limit: int) -> None:
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _listen(requests: queue.SimpleQueue[bytes]) -> None:
    """Queue requests, and end the process when the parent ends, even if a decoder hangs."""
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)


def _send(header: dict[str, Any], payload: Any = b"") -> None:
    text = json.dumps(header).encode()
    out = sys.stdout.buffer
    out.write(HEADER.pack(len(text), len(memoryview(payload).cast("B"))))
    out.write(text)
    out.write(payload)
    out.flush()


class _Session:
    """Answers requests. Caches the frame table of the last file."""

    def __init__(self) -> None:
        self._path: str | None = None
        self._table: FrameTable | None = None

    def answer(self, request: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
        path = Path(request["path"])
        span = None if request.get("span") is None else tuple(map(Fraction, request["span"]))
        if request["op"] == "audio":
            copied = None if path.is_dir() else audio.copy_audio(path, span)
            yield {"format": copied[1] if copied else None}, copied[0] if copied else b""
            return
        if request["op"] == "probe":
            info = video.probe(path)
            yield asdict(info) | {"fps": str(info.fps), "start_s": str(info.start_s)}, b""
            return
        if request["op"] == "picture":
            height, width = images.read_image(path).shape[:2]
            yield {"width": width, "height": height}, b""
            return
        if request["op"] == "film":
            yield from _messages(video.decode(path))
            return
        rate = Fraction(request["frame_rate"]) if path.is_dir() else None
        if self._table is None or request["path"] != self._path:
            table = read_frame_table(path) if rate is None else frame_folder.read_frame_table(path, rate)
            self._table, self._path = table, request["path"]
        if request["op"] == "describe":
            info = video.probe(path) if rate is None else frame_folder.probe(path, rate)
            yield _describe(path, info, self._table, span), b""
        elif request["op"] == "times":
            times = self._table.seconds
            yield {"seconds": [[i, float(times[i])] for i in request["indices"] if 0 <= i < len(times)]}, b""
        else:
            yield from _frames(path, rate, self._table, request["indices"])


def _describe(
    path: Path, info: video.VideoInfo, table: FrameTable, span: tuple[Fraction, ...] | None
) -> dict[str, Any]:
    first, last = 0, len(table) - 1
    if span is not None:
        start, end = map(float, span)
        inside = np.flatnonzero((table.seconds >= start - 1e-3) & (table.seconds < end - 1e-3))
        if not inside.size:
            raise ValueError(f"{path} has no frame between {start:.2f} s and {end:.2f} s, where its boxes lie")
        first, last = int(inside[0]), int(inside[-1])
    return {
        "width": info.width,
        "height": info.height,
        "fps": str(info.fps),
        "first": first,
        "last": last,
        "start_us": round(float(table.seconds[first]) * 1e6) if span is not None else 0,
    }


def _frames(
    path: Path, rate: Fraction | None, table: FrameTable, indices: list[int]
) -> Iterator[tuple[dict[str, Any], Any]]:
    if rate is None:
        frames = video.decode(path, frame_indices=indices, table=table, on_progress=_report)
    else:
        frames = frame_folder.decode(path, rate, frame_indices=indices)
    return _messages(frames)


def _messages(frames: Iterable[video.Frame]) -> Iterator[tuple[dict[str, Any], Any]]:
    for frame in frames:
        height, width = frame.image.shape[:2]
        header = {"index": frame.index, "pts_us": frame.pts_us, "width": width, "height": height}
        yield header, np.ascontiguousarray(frame.image).data


def _report() -> None:
    """Report progress: decoding many frames between two wanted ones is not a stall."""
    _send({"alive": True})
