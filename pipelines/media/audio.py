"""Copy a clip's sound packet by packet, without decoding."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error

from pipelines.media.container import open_media
from pipelines.media.streams import packets_of, sound_streams

MAX_SECONDS = 600  # of sound in a row; longer sound is left out, to bound the size of rows


def copy_audio(path: Path, span: tuple[Fraction, ...] | None = None) -> tuple[bytes, str] | None:
    """Return the clip's sound, copied into a container, as (bytes, suffix); None without sound.

    The stream is the first of `streams.sound_streams`. The container is m4a for AAC, MP3 and ALAC, else mka (Matroska).
    A stream that the container cannot hold, or longer than `MAX_SECONDS`, counts as none.

    Args:
        span: seconds from the video's start; only packets inside it are copied, shifted to begin at 0.
    """
    with open_media(path) as container:
        streams = sound_streams(container)
        if not streams:
            return None
        stream = streams[0]
        name, suffix = (
            ("mp4", "m4a")
            if stream.codec_context.codec.canonical_name in ("aac", "mp3", "alac")
            else ("matroska", "mka")
        )
        buffer = io.BytesIO()
        try:
            with av.open(buffer, "w", format=name, options={"fflags": "+bitexact"}) as out:
                target = out.add_stream_from_template(stream)
                for packet in _packets(container, stream, span):
                    if packet.dts * stream.time_base > MAX_SECONDS:
                        return None
                    packet.stream = target
                    out.mux(packet)
        except (av.error.FFmpegError, ValueError):
            return None
        return buffer.getvalue(), suffix


def _packets(container: Any, stream: Any, span: tuple[Fraction, ...] | None) -> Iterator[Any]:
    begin = Fraction(container.start_time or 0, 1_000_000)
    first: int | None = None
    if span is not None:
        container.seek(int((begin + span[0]) / stream.time_base), stream=stream)
    for packet in packets_of(container, stream):
        if packet.dts is None or packet.pts is None:
            continue
        if span is None:
            yield packet
            continue
        time = packet.pts * stream.time_base - begin
        if time >= span[1]:
            return
        if time >= span[0]:
            first = packet.dts if first is None else first
            packet.dts, packet.pts = packet.dts - first, packet.pts - first
            yield packet
