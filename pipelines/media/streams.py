"""Choose the picture stream and the sound stream of a film, the same ones for every command."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import av.error

from pipelines.media.container import open_media

_Disposition = av.stream.Disposition
# A cover, a poster or the thumbnails of a seek bar: ffmpeg lists each as a video stream.
_STILL = int(_Disposition.attached_pic | _Disposition.still_image | _Disposition.timed_thumbnails)
MAX_PIXELS = 4096 * 2304  # of one frame: slightly more than 4K
_MAX_TRIED_PACKETS = 250  # ten seconds at 25 frames/s


def picture_stream(container: Any, path: Path) -> Any:
    """Return the film's picture stream, set to one decoding thread.

    Of the streams that are no cover, still or thumbnails, the one of default disposition comes first, then the order in
    the file decides; streams of a single frame come last. Where there are several, the first that decodes is taken.

    Raises:
        ValueError: there is none, none that can be decoded, or frames larger than `MAX_PIXELS`; the message names
            `path`.
    """
    streams = [stream for stream in container.streams.video if not int(stream.disposition) & _STILL]
    if not streams:
        raise ValueError(f"{path} holds no video stream")
    known = [stream for stream in streams if stream.codec_context is not None]
    known.sort(key=lambda stream: (stream.frames == 1, not _is_default(stream)))
    stream = known[0] if len(known) == 1 else next((stream for stream in known if _decodes(path, stream)), None)
    if stream is None:
        raise ValueError(f"{path}: its pictures are of a codec that cannot be decoded here")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MAX_PIXELS:  # before a frame is decoded, which would take its memory
        raise ValueError(f"{path}: frames of {width}x{height} exceed {MAX_PIXELS} pixels")
    stream.thread_type = "SLICE"
    stream.codec_context.thread_count = 1
    return stream


def sound_streams(container: Any) -> list[Any]:
    """Return the sound streams whose codec is known: of default disposition first, then in the order of the file."""
    known = [stream for stream in container.streams.audio if stream.codec_context is not None]
    return sorted(known, key=lambda stream: not _is_default(stream))


def packets_of(container: Any, stream: Any) -> Iterator[Any]:
    """Yield a stream's packets. A truncated file ends early; a stream that begins after the header is passed over."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except IndexError:  # of PyAV's list of streams, which it makes when the file is opened
            packets = container.demux(stream)
            continue
        except av.error.FFmpegError:
            return
        if packet is None:
            return
        yield packet


def frames_of(container: Any, stream: Any) -> Iterator[Any]:
    """Yield decoded frames. Broken packets are skipped, and a truncated file ends early. Raises MemoryError."""
    for packet in packets_of(container, stream):
        try:
            yield from packet.decode()
        except MemoryError:  # which is one of ffmpeg's errors, too
            raise
        except av.error.FFmpegError:
            continue


def _is_default(stream: Any) -> bool:
    return bool(int(stream.disposition) & int(_Disposition.default))


def _decodes(path: Path, stream: Any) -> bool:
    with open_media(path) as container:  # a second one: the first stays at the file's beginning
        packets = packets_of(container, container.streams[stream.index])
        for _, packet in zip(range(_MAX_TRIED_PACKETS), packets, strict=False):
            with contextlib.suppress(av.error.FFmpegError):
                if packet.decode():
                    return True
    return False
