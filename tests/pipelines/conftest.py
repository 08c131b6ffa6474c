"""Small videos and faces that the tests make themselves, without the code under test."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from jaxtyping import Float, UInt8

from pipelines.head import CANONICAL_LANDMARKS
from pipelines.landmarks import Candidates, Face, make_face

MakeVideo = Callable[..., Path]


@pytest.fixture
def numbered_frame() -> Callable[..., UInt8[np.ndarray, "height width 3"]]:
    """Makes a grey frame whose brightness says its number (steps of 8 survive H.264)."""

    def make(number: int, width: int = 64, height: int = 48) -> UInt8[np.ndarray, "height width 3"]:
        return np.full((height, width, 3), 16 + 8 * number, np.uint8)

    return make


@pytest.fixture
def frame_number() -> Callable[[UInt8[np.ndarray, "height width 3"]], int]:
    """Reads the number that `numbered_frame` wrote."""
    return lambda image: round((float(image.mean()) - 16) / 8)


@pytest.fixture
def face_points() -> Callable[..., Float[np.ndarray, "68 2"]]:
    """Makes a face seen straight on; `size` is the larger side of its landmarks' box, centred at (x, y)."""

    def make(size: float = 100.0, x: float = 128.0, y: float = 128.0) -> Float[np.ndarray, "68 2"]:
        flat = CANONICAL_LANDMARKS[:, :2]
        low, high = flat.min(axis=0), flat.max(axis=0)
        return ((flat - (low + high) / 2) * (size / (high - low).max()) + [x, y]).astype(np.float32)

    return make


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """`make_video(name, frames, fps=..., audio_codec=..., audio_seconds=...)` -> path; written by PyAV."""

    def make(
        name: str,
        frames: Sequence[UInt8[np.ndarray, "height width 3"]],
        *,
        fps: Fraction = Fraction(25),
        audio_codec: str | None = None,
        audio_seconds: float = 1.0,
        codec: str = "libx264",
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as out:
            video = out.add_stream(codec, rate=fps)
            video.height, video.width = frames[0].shape[:2]
            video.pix_fmt = "yuv420p"
            audio = out.add_stream(audio_codec, rate=48000) if audio_codec else None
            for image in frames:
                out.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            out.mux(video.encode())
            if audio is not None:
                _write_tone(out, audio, audio_seconds)
        return path

    return make


def _write_tone(out: "av.container.OutputContainer", stream: "av.AudioStream", seconds: float) -> None:
    samples = np.sin(np.arange(int(seconds * 48000)) * 2 * np.pi * 440 / 48000) * 0.3
    fifo = av.AudioFifo()
    frame = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], format="flt", layout="mono")
    frame.rate = 48000
    frame.pts = 0
    resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=48000)
    size = stream.codec_context.frame_size or 1024
    for piece in resampler.resample(frame):
        fifo.write(piece)
    while (piece := fifo.read(size)) is not None:
        out.mux(stream.encode(piece))
    out.mux(stream.encode())


class MarkedFaces:
    """Finds a face of `size` px in frames brighter than 40, `others` more beside it. Needs no weights."""

    name = "marked"

    def __init__(self, points: Float[np.ndarray, "68 2"], others: int, clips_at_once: int) -> None:
        self._points, self._others, self.clips_at_once = points, others, clips_at_once
        self.seen: list[Candidates] = []

    def detect(self, image: UInt8[np.ndarray, "height width 3"]) -> list[Face]:
        if image.mean() < 40:
            return []
        return [make_face(self._points + np.float32([70 * i, 0]), 0.9) for i in range(1 + self._others)]

    def follow(self, clips: Sequence[Candidates]) -> list[list[list[Face]]]:
        self.seen += clips
        return [[self.detect(frame.image) for frame in clip.frames] for clip in clips]


@pytest.fixture
def marked_faces(face_points: Callable[..., Float[np.ndarray, "68 2"]]) -> Callable[..., MarkedFaces]:
    """`marked_faces(size=60, x=80, y=60, others=0, clips_at_once=1)` -> a detector that finds faces there."""

    def make(
        size: float = 60.0, x: float = 80.0, y: float = 60.0, others: int = 0, clips_at_once: int = 1
    ) -> MarkedFaces:
        return MarkedFaces(face_points(size=size, x=x, y=y), others, clips_at_once)

    return make
