from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.media.animated_webp import write_animated_webp
from pipelines.media.encode import VideoWriter


def test_a_pause_of_the_video_is_kept(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "x.mp4", width=64, height=48, fps=Fraction(12), variable=True) as writer:
        for number, seconds in enumerate((0.0, 1 / 12, 2 / 12, 1.5, 1.5 + 1 / 12)):
            writer.write(np.full((48, 64, 3), 40 * number, np.uint8), seconds)
    write_animated_webp(tmp_path / "x.mp4", tmp_path / "x.webp")
    durations = []
    with Image.open(tmp_path / "x.webp") as picture:
        for number in range(picture.n_frames):
            picture.seek(number)
            picture.load()
            durations.append(picture.info["duration"])
    assert durations == [83, 83, 1333, 83, 83]


def test_a_faster_video_is_thinned_and_begins_where_it_is_told(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "x.mp4", width=64, height=48, fps=Fraction(24)) as writer:
        for number in range(24):
            writer.write(np.full((48, 64, 3), 10 * number, np.uint8))
    write_animated_webp(tmp_path / "x.mp4", tmp_path / "x.webp", start_s=0.5)
    with Image.open(tmp_path / "x.webp") as picture:
        assert (picture.n_frames, picture.size) == (6, (600, 450))
        assert abs(np.asarray(picture.convert("RGB")).mean() - 120) < 4
