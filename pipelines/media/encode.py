"""Write H.264 mp4 files through ffmpeg, with an exact frame rate and the sound of another file."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import uuid
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import ffmpeg
import numpy as np
from jaxtyping import UInt8

from pipelines.media.container import open_media

# Codecs that every player accepts inside mp4; anything else becomes AAC.
_COPYABLE_AUDIO = frozenset({"aac", "mp3"})


def ffmpeg_executable() -> str:
    """Return the ffmpeg on PATH, else the one bundled with imageio-ffmpeg."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


class VideoWriter:
    """A context manager that writes one H.264 yuv420p mp4, one output frame per `write`, at exactly `fps`.

    The file appears at `path` when the block ends without an error, else not at all. The sound of `audio_from`, if any,
    is copied when it is AAC or MP3, else encoded as AAC, and cut to the video's length.

    Raises:
        ValueError: odd or too small sizes, a frame rate that is not positive, a frame of another size.
        OSError: ffmpeg fails; the message holds its last line.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        width: int,
        height: int,
        fps: Fraction,
        audio_from: Path | None = None,
        crf: int = 18,
        comment: str | None = None,
    ) -> None:
        if width < 2 or height < 2 or width % 2 or height % 2:
            raise ValueError(f"H.264 yuv420p needs even sizes of at least 2 pixels, got {width}x{height}")
        if fps <= 0:
            raise ValueError(f"fps must be positive, got {fps}")
        self._path = Path(path)
        self._shape = (height, width, 3)
        self._fps = Fraction(fps)
        self._audio_from = audio_from
        self._crf = crf
        self._comment = comment
        self._num_frames = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._partial: Path | None = None

    @property
    def num_frames(self) -> int:
        """Frames written so far."""
        return self._num_frames

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # A generated name: ffmpeg may read the user's as a pattern or a protocol, and it may be very long.
        self._partial = self._path.parent / f".partial-{uuid.uuid4().hex}.mp4"
        # A file, not a pipe: a pipe would fill up, because nothing reads it while frames are written.
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._encode_command(self._partial), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._log
        )
        return self

    def _encode_command(self, target: Path) -> list[str]:
        height, width, _ = self._shape
        rate = f"{self._fps.numerator}/{self._fps.denominator}"
        frames = ffmpeg.input("pipe:0", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=rate)
        # Converted to and tagged as BT.709: without a tag, players guess from the frame size.
        frames = frames.filter("scale", out_color_matrix="bt709", out_range="tv")
        return _compile(
            ffmpeg.output(
                frames,
                f"file:{target}",
                vcodec="libx264",
                pix_fmt="yuv420p",
                crf=self._crf,
                preset="medium",
                colorspace="bt709",
                color_primaries="bt709",
                color_trc="bt709",
                color_range="tv",
                movflags="+faststart",
                # ffmpeg's default time base is 1/(16384 * n): rounded times would make the average rate inexact.
                video_track_timescale=_timescale(self._fps),
                **self._metadata(),
            )
        )

    def _metadata(self) -> dict[str, str]:
        return {"metadata": f"comment={self._comment}"} if self._comment else {}

    def write(self, image: UInt8[np.ndarray, "height width 3"]) -> None:
        """Append one RGB frame."""
        if image.shape != self._shape or image.dtype != np.uint8:
            raise ValueError(f"expected a uint8 frame of shape {self._shape}, got {image.dtype} {image.shape}")
        assert self._process is not None, "use VideoWriter as a context manager"
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(image).data)
        except BrokenPipeError as error:
            raise OSError(f"cannot encode {self._path}: {self._error_line()}") from error
        self._num_frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._partial is not None
        assert self._log is not None
        try:
            if kind is not None:
                self._process.kill()
            self._close_pipe()
            code = self._process.wait()
            if kind is None:
                if self._num_frames == 0:
                    raise ValueError(f"cannot encode {self._path}: no frame was written")
                if code != 0:
                    raise OSError(f"cannot encode {self._path}: {self._error_line()}")
                self._add_sound()
                self._partial.replace(self._path)
        finally:
            self._log.close()
            self._partial.unlink(missing_ok=True)

    def _close_pipe(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # ffmpeg has already ended; its exit code is checked
            self._process.stdin.close()

    def _error_line(self) -> str:
        assert self._process is not None
        assert self._log is not None
        self._process.wait()
        self._log.seek(0)
        return last_line(self._log.read())

    def _add_sound(self) -> None:
        """Mux the sound into the finished video, whose length is known only now."""
        if self._audio_from is None or (sound := _sound_info(self._audio_from)) is None:
            return
        assert self._partial is not None
        codec, lead = sound
        seconds = float(self._num_frames / self._fps)
        muxed = self._partial.with_name(f".partial-{uuid.uuid4().hex}.mp4")
        video = ffmpeg.input(f"file:{self._partial}").video
        # A copied stream can only be cut at its end; if its beginning must be cut, it is encoded again.
        if codec in _COPYABLE_AUDIO and lead < 0.02:
            audio = ffmpeg.input(f"file:{self._audio_from.absolute()}", t=seconds).audio
            options = {"c:a": "copy"}
        else:
            audio = ffmpeg.input(f"file:{self._audio_from.absolute()}").audio
            audio = audio.filter("atrim", start=lead, duration=seconds).filter("asetpts", "PTS-STARTPTS")
            options = {"c:a": "aac", "b:a": "160k"}
        command = _compile(
            ffmpeg.output(
                video,
                audio,
                f"file:{muxed}",
                **{"c:v": "copy"},
                **options,
                map_metadata=0,
                movflags="+faststart",
                video_track_timescale=_timescale(self._fps),
                **self._metadata(),
            )
        )
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
            if done.returncode != 0:
                raise OSError(f"cannot add the sound of {self._audio_from}: {last_line(done.stderr)}")
            muxed.replace(self._partial)
        finally:
            muxed.unlink(missing_ok=True)


def _timescale(fps: Fraction) -> int:
    # A multiple of the numerator of at least 10,000: every frame lasts a whole number of ticks.
    return fps.numerator * max(1, -(-10_000 // fps.numerator))


def _sound_info(path: Path) -> tuple[str, float] | None:
    """Return the codec of the first sound stream and the seconds by which it precedes the video; None without sound."""
    with open_media(path) as container:
        if not container.streams.audio:
            return None
        audio = container.streams.audio[0]
        begin = _start_seconds(audio)
        videos = container.streams.video
        lead = _start_seconds(videos[0]) - begin if videos else 0.0
        return str(audio.codec_context.codec.canonical_name), max(0.0, lead)


def _start_seconds(stream: Any) -> float:
    if stream.start_time is None or stream.time_base is None:
        return 0.0
    return float(stream.start_time * stream.time_base)


def _compile(output: Any) -> list[str]:
    command = ffmpeg.compile(output, cmd=ffmpeg_executable(), overwrite_output=True)
    return [*command[:1], "-hide_banner", "-loglevel", "error", "-nostdin", *command[1:]]


def last_line(output: bytes) -> str:
    """Return the last non-empty line of a program's output."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it gave no reason"
