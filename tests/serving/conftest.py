"""Small media files for the tests of serving."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipelines.media.video import VideoWriter

MakeVideo = Callable[..., Path]


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """make_video("a.mp4", levels=[0, 100], fps=25, size=(32, 48), sound=False): one grey frame a level."""

    def make(
        name: str,
        levels: list[int],
        fps: Fraction | int = 25,
        size: tuple[int, int] = (32, 48),
        sound: bool = False,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = size
        tone = _tone(tmp_path / f"{path.stem}-tone.mkv", len(levels) / Fraction(fps)) if sound else None
        with VideoWriter(path, width=width, height=height, fps=Fraction(fps), audio_from=tone) as writer:
            for level in levels:
                writer.write(np.full((height, width, 3), level, np.uint8))
        return path

    return make


def _tone(path: Path, seconds: Fraction) -> Path:
    rate = 8000
    samples = np.sin(np.arange(int(seconds * rate)) * 2 * np.pi * 440 / rate)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray((samples * 9000).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "portrait.png"
    Image.new("RGB", (16, 16), (200, 150, 100)).save(path)
    return path
