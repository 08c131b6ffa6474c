"""The mosaic, read back by PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipelines.media.video import VideoWriter
from serving.batch.results.mosaic import write_mosaic


def read(path: Path) -> tuple[Any, list[np.ndarray], bool]:
    """Frame rate, frames, has sound."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return container.streams.video[0].average_rate, frames, bool(container.streams.audio)


def levels(frames: list[np.ndarray], columns: slice) -> list[int]:
    """Grey level of a part of each frame, rounded to the tens that the tests paint with."""
    return [round(float(frame[4:-4, columns].mean()) / 10) * 10 for frame in frames]


def test_videos_stand_in_a_row_and_the_shorter_holds_its_last_frame(make_video: Any, tmp_path: Path) -> None:
    parts = [make_video("a.mp4", [50, 100, 150]), make_video("b.mp4", [200, 20])]
    assert write_mosaic(parts, tmp_path / "out.mp4") == 3
    _, frames, sound = read(tmp_path / "out.mp4")
    assert frames[0].shape == (32, 96, 3)
    assert levels(frames, slice(4, 44)) == [50, 100, 150]
    assert levels(frames, slice(52, 92)) == [200, 20, 20]
    assert not sound


def test_the_highest_frame_rate_is_kept_exactly_and_slower_videos_keep_their_pace(
    make_video: Any, tmp_path: Path
) -> None:
    ntsc = Fraction(30000, 1001)
    parts = [make_video("slow.mp4", [50, 100], fps=ntsc / 2), make_video("fast.mp4", [50, 100, 150, 200], fps=ntsc)]
    write_mosaic(parts, tmp_path / "out.mp4")
    rate, frames, _ = read(tmp_path / "out.mp4")
    assert rate == ntsc
    assert levels(frames, slice(4, 44)) == [50, 50, 100, 100]
    assert levels(frames, slice(52, 92)) == [50, 100, 150, 200]


def test_with_a_variable_rate_there_is_a_frame_whenever_one_of_the_videos_has_one(
    make_video: Any, tmp_path: Path
) -> None:
    with VideoWriter(tmp_path / "pause.mp4", width=48, height=32, fps=Fraction(25), variable=True) as writer:
        for level, seconds in ((200, 0.0), (20, 0.04), (100, 0.5)):
            writer.write(np.full((32, 48, 3), level, np.uint8), seconds)
    write_mosaic([make_video("a.mp4", [50, 100, 150]), tmp_path / "pause.mp4"], tmp_path / "out.mp4")
    _, frames, _ = read(tmp_path / "out.mp4")
    assert levels(frames, slice(4, 44)) == [50, 100, 150, 150]
    assert levels(frames, slice(52, 92)) == [200, 20, 20, 100]
    with av.open(str(tmp_path / "out.mp4")) as container:
        times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    assert times == pytest.approx([0, 0.04, 0.08, 0.5], abs=1e-4)


def test_a_slow_video_that_is_longest_is_shown_to_its_end(make_video: Any, tmp_path: Path) -> None:
    parts = [make_video("fast.mp4", [50], fps=50), make_video("slow.mp4", [100, 200], fps=25)]
    assert write_mosaic(parts, tmp_path / "out.mp4") == 4


def test_all_take_the_smallest_ones_height(make_video: Any, tmp_path: Path) -> None:
    parts = [make_video("a.mp4", [50], size=(64, 64)), make_video("b.mp4", [200], size=(32, 48))]
    write_mosaic(parts, tmp_path / "out.mp4")
    _, frames, _ = read(tmp_path / "out.mp4")
    assert frames[0].shape == (32, 32 + 48, 3)


def test_the_sound_is_the_first_one_there_is(make_video: Any, tmp_path: Path) -> None:
    parts = [make_video("mute.mp4", [50] * 10), make_video("loud.mp4", [50] * 10, sound=True)]
    write_mosaic(parts, tmp_path / "out.mp4")
    assert read(tmp_path / "out.mp4")[2]


def test_a_broken_part_leaves_no_file(make_video: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    with pytest.raises(ValueError, match=r"broken\.mp4"):
        write_mosaic([make_video("a.mp4", [50]), broken], tmp_path / "out.mp4")
    with pytest.raises(ValueError, match="at least one"):
        write_mosaic([], tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
