"""Decode clips in a child process with limits, so that a file that crashes, hangs or bloats the decoder costs one clip.

The child starts on first use, serves one clip after another and is replaced when it dies. It sends JSON headers and raw
pixels, never pickled objects, so that a malicious file which takes over the child cannot run code here.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import struct
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np

from pipelines.media.video import Frame, VideoInfo

HEADER = struct.Struct("<II")  # size of the JSON header, size of the payload
_IMPORT_ROOT = Path(__file__).resolve().parents[3]  # the folder that holds the package `pipelines`
_PIPE_BYTES = 1 << 20
_START_S = 120.0
DEFAULT_FRAME_RATE = Fraction(25)
"""Frames per second of a folder of frames: that of VoxCeleb, LRS and GRID."""


@dataclass(frozen=True)
class Limits:
    """Limits per clip. Exceeding one ends the child process, and the clip fails."""

    stall_s: float = 60.0
    """Longest time without a message; the child reports progress while it works."""
    clip_s: float = 1800.0
    """Longest time for one request."""
    memory_bytes: int = 6 * 2**30
    """Address space of the child, including shared libraries."""


@dataclass(frozen=True)
class ClipInfo:
    """The properties of a file, and the frames that belong to the clip: `first` to `last`, both included.

    Sizes are as displayed: rotation and pixel aspect applied.
    """

    width: int
    height: int
    fps: Fraction
    first: int
    last: int
    start_us: int

    @property
    def num_frames(self) -> int:
        """Number of frames of the clip."""
        return self.last - self.first + 1


class DecoderDied(Exception):
    """The child process ended during a request: it crashed, or exceeded a limit (`timed_out` for a time limit)."""

    def __init__(self, message: str, *, timed_out: bool) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class Decoder:
    """A decoding child process. A context manager; the child also ends with the object or the interpreter.

    Paths are files, or folders of frames (see `frame_folder`), which show `frame_rate` frames a second. Every method
    raises ValueError if the file is bad (the message names the path), and DecoderDied if the child ends.
    """

    def __init__(self, limits: Limits | None = None, frame_rate: Fraction = DEFAULT_FRAME_RATE) -> None:
        self._limits, self._frame_rate = limits or Limits(), frame_rate
        self._child: subprocess.Popen[bytes] | None = None
        self._end: Callable[[], object] | None = None
        self._ready = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the child now instead of on the first request, and do not wait for it."""
        if self._child is None or self._child.poll() is not None:
            self._spawn()

    def describe(self, path: Path, span: tuple[Fraction, Fraction] | None = None) -> ClipInfo:
        """Probe a file and count its frames.

        Args:
            span: start and end of the clip in seconds from the video's start; None for the whole file.
        """
        seconds = None if span is None else [str(span[0]), str(span[1])]
        header, _ = self._ask_one({"op": "describe", "path": str(path), "span": seconds})
        return ClipInfo(
            width=header["width"],
            height=header["height"],
            fps=Fraction(header["fps"]),
            first=header["first"],
            last=header["last"],
            start_us=header["start_us"],
        )

    def probe(self, path: Path) -> VideoInfo:
        """Read the header and decode one frame, as `video.probe`."""
        header, _ = self._ask_one({"op": "probe", "path": str(path)})
        header |= {name: Fraction(header[name]) for name in ("fps", "start_s")}
        return VideoInfo(**header)

    def picture(self, path: Path) -> tuple[int, int]:
        """Decode a picture, as `images.read_image`, and return its width and height as shown."""
        header, _ = self._ask_one({"op": "picture", "path": str(path)})
        return int(header["width"]), int(header["height"])

    def film(self, path: Path) -> Iterator[Frame]:
        """Yield every frame in order, as `video.decode`. Leaving the iterator early ends the child."""
        return self._frames({"op": "film", "path": str(path)})

    def times(self, path: Path, indices: Sequence[int]) -> dict[int, float]:
        """Return frame index -> seconds from the video's start, for the indices that exist."""
        header, _ = self._ask_one({"op": "times", "path": str(path), "indices": list(indices)})
        return {int(index): float(seconds) for index, seconds in header["seconds"]}

    def frames(self, path: Path, indices: Sequence[int]) -> Iterator[Frame]:
        """Yield the frames with these indices, ascending, as displayed. Leaving the iterator early ends the child."""
        return self._frames({"op": "frames", "path": str(path), "indices": list(indices)})

    def _frames(self, request: dict[str, Any]) -> Iterator[Frame]:
        try:
            for header, payload in self._ask(request):
                shape = (int(header["height"]), int(header["width"]), 3)
                yield Frame(header["index"], header["pts_us"], np.frombuffer(payload, np.uint8).reshape(shape))
        except GeneratorExit:
            self.close()  # the pipe still holds the rest of the answer
            raise

    def audio(self, path: Path, span: tuple[Fraction, Fraction] | None = None) -> tuple[bytes, str] | None:
        """Return the clip's sound as (bytes, container suffix), see `audio.copy_audio`; None without sound."""
        seconds = None if span is None else [str(span[0]), str(span[1])]
        header, payload = self._ask_one({"op": "audio", "path": str(path), "span": seconds})
        return (bytes(payload), str(header["format"])) if header["format"] else None

    def close(self) -> None:
        """End the child. The next call starts another."""
        self._child = None
        if self._end is not None:
            self._end()

    def _ask_one(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytearray]:
        (answer,) = self._ask(request)
        return answer

    def _ask(self, request: dict[str, Any]) -> Iterator[tuple[dict[str, Any], bytearray]]:
        """Yield the answers to one request, up to the one marked `end`."""
        child = self._running()
        deadline = time.monotonic() + self._limits.clip_s
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps({**request, "frame_rate": str(self._frame_rate)}).encode() + b"\n")
            child.stdin.flush()
        except BrokenPipeError:
            self._raise_death(child)
        while True:
            header, payload = self._receive(child, deadline, self._limits.stall_s)
            if "error" in header:
                self._raise_error(header["kind"], header["error"])
            if header.get("end"):
                return
            if not header.get("alive"):
                yield header, payload

    def _raise_error(self, kind: str, message: str) -> NoReturn:
        if kind in ("MemoryError", "BlockingIOError"):  # the latter: no memory to start a thread
            limit = self._limits.memory_bytes / 2**30
            raise DecoderDied(f"the decoder needs more than {limit:.1f} GiB of memory", timed_out=False)
        raise (FileNotFoundError if kind == "FileNotFoundError" else ValueError)(message)

    def _running(self) -> subprocess.Popen[bytes]:
        self.start()
        assert self._child is not None
        if not self._ready:
            # Imports do not count for the clip.
            self._receive(self._child, time.monotonic() + _START_S, _START_S)
            self._ready = True
        return self._child

    def _spawn(self) -> None:
        self.close()
        command = f"from pipelines.media.decoder import worker; worker.main({self._limits.memory_bytes})"
        path = os.pathsep.join([str(_IMPORT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._child = subprocess.Popen(
            [sys.executable, "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoders log every broken packet
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        self._end = weakref.finalize(self, _end_child, self._child)
        self._ready = False

    def _receive(
        self, child: subprocess.Popen[bytes], deadline: float, stall_s: float
    ) -> tuple[dict[str, Any], bytearray]:
        head = self._read(child, HEADER.size, deadline, stall_s)
        header_bytes, payload_bytes = HEADER.unpack(head)
        header = json.loads(self._read(child, header_bytes, deadline, stall_s))
        return header, self._read(child, payload_bytes, deadline, stall_s)

    def _read(self, child: subprocess.Popen[bytes], number: int, deadline: float, stall_s: float) -> bytearray:
        assert child.stdout is not None
        descriptor = child.stdout.fileno()
        data = bytearray(number)
        view, done = memoryview(data), 0
        with selectors.DefaultSelector() as waiting:
            waiting.register(descriptor, selectors.EVENT_READ)
            while done < number:
                left = min(stall_s, deadline - time.monotonic())
                if left <= 0 or not waiting.select(left):
                    self.close()
                    limit = stall_s if left > 0 else self._limits.clip_s
                    raise DecoderDied(f"the decoder took longer than {limit:.0f} s", timed_out=True)
                got = os.readv(descriptor, [view[done : done + _PIPE_BYTES]])
                if not got:
                    self._raise_death(child)
                done += got
        return data

    def _raise_death(self, child: subprocess.Popen[bytes]) -> NoReturn:
        code = child.wait()
        self.close()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        raise DecoderDied(f"the decoder crashed ({how})", timed_out=False)


def _end_child(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # flushing unsent data fails
                pipe.close()
