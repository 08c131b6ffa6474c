"""The sound of a driver for the video made from it: which stream, and how it is kept in step with the picture.

ffmpeg's own process decodes it, so that a sound stream that crashes the decoder harms nothing else.
"""

from __future__ import annotations

import errno
import os
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg

from pipelines.media.container import SOUND_CONTAINERS, open_media
from pipelines.media.ffmpeg_process import compile_command, ffmpeg_executable, last_line
from pipelines.media.streams import sound_streams

_COPIED = frozenset({"aac", "mp3"})  # codecs that every player accepts inside mp4
_MAX_LEAD_S = 0.02  # of copied sound before the picture: a stream can be copied from its first packet only
_MIN_GAP_S = 0.015  # differences between timestamps and samples that are filled with silence, or cut
_SHORT_FRAME = 64  # samples
_LAYOUTS = {1: ("mono", "160k"), 6: ("5.1", "480k"), 8: ("7.1", "480k")}  # all other sound becomes stereo
_TRIED_BYTES = 4096
_TRY_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Sound:
    """One sound stream of a file, and where it begins."""

    path: Path
    index: int
    """Number of the stream in the file."""
    codec: str
    num_channels: int
    begins_s: Fraction
    """Time of its first packet on the file's clock, seconds."""
    picture_begins_s: Fraction
    """Time of the first picture on the file's clock, which is 0 in the new video."""
    kept: tuple[tuple[float, float], ...] | None = None
    """Parts that are heard, one after the other: begin and end in seconds after the first picture. None: all."""

    @property
    def is_copied(self) -> bool:
        """Whether the packets are copied; else they are decoded and encoded as AAC."""
        return self.kept is None and self.codec in _COPIED and self.picture_begins_s - self.begins_s < _MAX_LEAD_S


def find_sound(path: Path, picture_begins_s: Fraction) -> tuple[Sound | None, str | None]:
    """Return the first sound stream that ffmpeg can decode (`streams.sound_streams` has the order), and a note.

    The note, for the user, says that there are sound streams and none of them can be used.

    Raises:
        FileNotFoundError, ValueError: as `container.open_media`.
    """
    with open_media(path, SOUND_CONTAINERS) as container:
        num_streams = len(container.streams.audio)
        found = [
            Sound(
                path=path,
                index=int(stream.index),
                codec=str(stream.codec_context.codec.canonical_name),
                num_channels=int(stream.codec_context.channels or 0),
                begins_s=_begin(stream),
                picture_begins_s=picture_begins_s,
            )
            for stream in sound_streams(container)
        ]
    for sound in found:
        if _decodes(sound):
            return sound, None
    if not num_streams:
        return None, None
    which = "its sound stream" if num_streams == 1 else f"none of its {num_streams} sound streams"
    return None, f"the video is silent: {which} can{'not' if num_streams == 1 else ''} be decoded"


def add_sound(video: Path, sound: Sound, target: Path, *, seconds: float, options: dict[str, Any]) -> str | None:
    """Write `target`: the finished `video` with the sound, which is cut to the video's length.

    Returns:
        None, or why ffmpeg could not add the sound, on one line. There may be a part of `target` then.

    Sound that begins before the picture is cut, sound that begins later or has gaps is filled with silence: it stays in
    step with the picture.

    Args:
        seconds: length of the video.
        options: further options of the output.

    Raises:
        OSError: the disk is full.
    """
    picture = ffmpeg.input(f"file:{video}").video
    source, stream = f"file:{sound.path.absolute()}", str(sound.index)
    if sound.is_copied:
        track = ffmpeg.input(source, itsoffset=-float(sound.picture_begins_s))[stream]
        encoding = {"c:a": "copy"}
    else:
        track = ffmpeg.input(source)[stream]
        track = track.filter("asetpts", f"PTS-({sound.picture_begins_s})/TB")
        # `async` fills gaps and cuts overlaps of the timestamps; `first_pts` does so before the first sample.
        track = track.filter("aresample", **{"async": 1, "min_hard_comp": _MIN_GAP_S, "first_pts": 0})
        if sound.kept is not None:
            # Short frames: a frame is kept or dropped whole.
            track = track.filter("asetnsamples", n=_SHORT_FRAME, p=0)
            heard = "+".join(f"gte(t,{begin:.6f})*lt(t,{end:.6f})" for begin, end in sound.kept)
            track = track.filter("aselect", heard).filter("asetpts", "N/SR/TB")
        layout, bit_rate = _LAYOUTS.get(sound.num_channels, ("stereo", "160k"))
        # Named, because the AAC encoder refuses channels of which a file says the number only.
        track = track.filter("aformat", channel_layouts=layout).filter("atrim", end=seconds)
        encoding = {"c:a": "aac", "b:a": bit_rate}
    # -copyts keeps both files' clocks: ffmpeg would begin each of them at 0.
    options = {**encoding, "c:v": "copy", "copyts": None, "t": seconds, "map_metadata": 0, **options}
    command = compile_command(ffmpeg.output(picture, track, f"file:{target}", **options))
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode == 0:
        return None
    if os.strerror(errno.ENOSPC).encode() in done.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
    return last_line(done.stderr)


def _begin(stream: Any) -> Fraction:
    if stream.start_time is None or stream.time_base is None:
        return Fraction(0)
    return Fraction(stream.start_time * stream.time_base)


def _decodes(sound: Sound) -> bool:
    """Return whether ffmpeg decodes the first samples of a stream."""
    inputs = ["-i", f"file:{sound.path.absolute()}", "-map", f"0:{sound.index}"]
    output = ["-f", "s16le", "-fs", str(_TRIED_BYTES), "pipe:1"]
    command = [ffmpeg_executable(), "-hide_banner", "-loglevel", "error", "-nostdin", *inputs, *output]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_TRY_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return False
    return bool(done.stdout)
