"""Write H.264 mp4 files through ffmpeg, with exact frame times and the sound of another file."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import uuid
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import av
import av.error
import ffmpeg
import numpy as np
from jaxtyping import UInt8

from pipelines.media.ffmpeg_process import compile_command, last_line
from pipelines.media.sound import Sound, add_sound

Stamp = Callable[[UInt8[np.ndarray, "height width 3"]], UInt8[np.ndarray, "height width 3"]]
"""Changes each frame before it is encoded; what it returns is used before the next call."""
_CLOCK = 90_000  # ticks a second of a video with a variable frame rate


class VideoWriter:
    """A context manager that writes one H.264 yuv420p mp4, one output frame per `write`.

    Frames come at exactly `fps`, or with `variable` at the times that `write` is given. The file appears at `path` when
    the block ends without an error, else not at all. The sound is cut to the video's length, see `sound.add_sound`; a
    video whose sound cannot be decoded is silent.

    Raises:
        ValueError: odd or too small sizes, a frame rate that is not positive, a frame of another size, a time that is
            not after the one before it.
        OSError: ffmpeg fails; the message holds its last line.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        width: int,
        height: int,
        fps: Fraction,
        variable: bool = False,
        sound: Sound | None = None,
        crf: int = 18,
        comment: str | None = None,
        stamp: Stamp | None = None,
    ) -> None:
        """`fps` of a video with a variable frame rate decides how long the last frame is shown."""
        if width < 2 or height < 2 or width % 2 or height % 2:
            raise ValueError(f"H.264 yuv420p needs even sizes of at least 2 pixels, got {width}x{height}")
        if fps <= 0:
            raise ValueError(f"fps must be positive, got {fps}")
        self._path = Path(path)
        self._shape = (height, width, 3)
        self._fps = Fraction(fps)
        self._variable = variable
        self._sound = sound
        self._crf = crf
        self._comment = comment
        self._stamp = stamp
        self.sound_problem: str | None = None
        """Why the finished video has no sound though `sound` was given, on one line."""
        self._num_frames = 0
        self._last_tick = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._timed: _TimedFrames | None = None
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
        if self._variable:
            frames = ffmpeg.input("pipe:0", format="nut")
            # Without a duration of the packets, the last frame would last one tick; with B-frames, the length in the
            # header would lack a pause before one of the last frames.
            timing = {
                "enc_time_base": f"1:{_CLOCK}",
                "bf": 0,
                "bsf:v": f"setts=pts=PTS:dts=DTS:duration={round(_CLOCK / self._fps)}",
            }
        else:
            rate = f"{self._fps.numerator}/{self._fps.denominator}"
            frames = ffmpeg.input("pipe:0", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=rate)
            timing = {}
        # Converted to and tagged as BT.709: without a tag, players guess from the frame size.
        frames = frames.filter("scale", out_color_matrix="bt709", out_range="tv", flags="bicubic+accurate_rnd")
        return compile_command(
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
                **timing,
                **self._container_options(),
            )
        )

    def _container_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"movflags": "+faststart"}
        # ffmpeg's default time base is 1/(16384 * n): rounded times would make the average rate inexact.
        options["video_track_timescale"] = _CLOCK if self._variable else _timescale(self._fps)
        if self._comment:
            options["metadata"] = f"comment={self._comment}"
        return options

    def write(self, image: UInt8[np.ndarray, "height width 3"], seconds: float | None = None) -> None:
        """Append one RGB frame.

        Args:
            seconds: when it is shown, since the video's beginning; with `variable` only.
        """
        if image.shape != self._shape or image.dtype != np.uint8:
            raise ValueError(f"expected a uint8 frame of shape {self._shape}, got {image.dtype} {image.shape}")
        if self._variable != (seconds is not None):
            raise ValueError("frames of a video with a variable rate need a time, those of a constant rate have none")
        assert self._process is not None, "use VideoWriter as a context manager"
        assert self._process.stdin is not None
        if self._stamp is not None:
            image = self._stamp(image)
        try:
            if seconds is None:
                self._process.stdin.write(np.ascontiguousarray(image).data)
            else:
                self._write_at(image, round(seconds * _CLOCK))
        except (BrokenPipeError, av.error.FFmpegError) as error:
            raise OSError(f"cannot encode {self._path}: {self._error_line()}") from error
        self._num_frames += 1

    def _write_at(self, image: UInt8[np.ndarray, "height width 3"], tick: int) -> None:
        if tick <= self._last_tick:
            raise ValueError(f"frame {self._num_frames} is not later than the one before it")
        self._last_tick = tick
        if self._timed is None:
            assert self._process is not None
            self._timed = _TimedFrames(self._process.stdin, self._shape[1], self._shape[0])
        self._timed.write(image, tick)

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
        # ffmpeg may already have ended; its exit code is checked
        with contextlib.suppress(BrokenPipeError, av.error.FFmpegError):
            if self._timed is not None:
                self._timed.close()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def _error_line(self) -> str:
        assert self._process is not None
        assert self._log is not None
        self._process.wait()
        self._log.seek(0)
        return last_line(self._log.read())

    def _add_sound(self) -> None:
        """Mux the sound into the finished video, whose length is known only now."""
        if self._sound is None:
            return
        assert self._partial is not None
        begun = Fraction(self._last_tick, _CLOCK) if self._variable else (self._num_frames - 1) / self._fps
        muxed = self._partial.with_name(f".partial-{uuid.uuid4().hex}.mp4")
        try:
            self.sound_problem = add_sound(
                self._partial,
                self._sound,
                muxed,
                seconds=float(begun + 1 / self._fps),
                options=self._container_options(),
            )
            if self.sound_problem is None:
                muxed.replace(self._partial)
        finally:
            muxed.unlink(missing_ok=True)


class _TimedFrames:
    """Sends frames with their times to ffmpeg as NUT, the container for raw video that has timestamps."""

    def __init__(self, pipe: IO[bytes] | None, width: int, height: int) -> None:
        self._container = av.open(pipe, "w", format="nut")
        self._stream = self._container.add_stream("rawvideo", rate=_CLOCK)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "rgb24"
        self._stream.codec_context.time_base = Fraction(1, _CLOCK)

    def write(self, image: UInt8[np.ndarray, "height width 3"], tick: int) -> None:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts, frame.time_base = tick, Fraction(1, _CLOCK)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()


def _timescale(fps: Fraction) -> int:
    # A multiple of the numerator of at least 10,000: every frame lasts a whole number of ticks.
    return fps.numerator * max(1, -(-10_000 // fps.numerator))
