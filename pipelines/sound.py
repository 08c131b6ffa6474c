"""Keep a clip's sound: packets copied, nothing decoded."""

from __future__ import annotations

import io
from pathlib import Path

import av
import av.error

from pipelines.media import open_media


def copy_audio(path: Path) -> tuple[bytes, str] | None:
    """The clip's first sound stream, packets copied, as the bytes and name of a container; None without sound.

    MP4's audio form for what it carries, Matroska for the rest. A stream that no container takes counts as none.
    """
    with open_media(path) as container:
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        name, suffix = (
            ("mp4", "m4a")
            if stream.codec_context.codec.canonical_name in ("aac", "mp3", "alac")
            else ("matroska", "mka")
        )
        buffer = io.BytesIO()
        try:
            with av.open(buffer, "w", format=name, options={"fflags": "+bitexact"}) as out:
                target = out.add_stream_from_template(stream)
                for packet in container.demux(stream):
                    if packet.dts is not None:
                        packet.stream = target
                        out.mux(packet)
        except (av.error.FFmpegError, ValueError):
            return None
        return buffer.getvalue(), suffix
