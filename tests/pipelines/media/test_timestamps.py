from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipelines.media import timestamps, video
from pipelines.media.timestamps import read_frame_table

Fixture = Callable[..., Any]


def write(path: Path, count: int, **options: str) -> Path:
    """A video of noise with a keyframe every 30 frames and B-frames between."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"g": "30", "bf": "3", "preset": "ultrafast", **options})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(count):
            image = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode())
    return path


def test_frames_are_counted_and_timed_without_decoding(make_video: Fixture, numbered_frame: Fixture) -> None:
    path = make_video("clip.mp4", [numbered_frame(i) for i in range(13)], fps=Fraction(10))
    table = read_frame_table(path)
    assert len(table) == len(list(video.decode(path))) == 13
    assert table.seconds == pytest.approx([i / 10 for i in range(13)])
    assert not table.can_seek  # a short video: not worth a jump


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"x264-params": "open-gop=1"}], ids=["closed", "open"])
@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_jumping_gives_the_frames_of_decoding_all(
    name: str, options: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / name, 400, **options)
    wanted = [0, 1, 61, 89, 90, 200, 201, 399]
    plain = list(video.decode(path, frame_indices=wanted))
    monkeypatch.setattr(timestamps, "_MIN_FRAMES_TO_SEEK", 100)
    table = read_frame_table(path)
    assert table.can_seek
    jumped = list(video.decode(path, frame_indices=wanted, table=table))
    assert [(f.index, f.pts_us) for f in jumped] == [(f.index, f.pts_us) for f in plain]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(jumped, plain, strict=True))


def test_a_long_video_is_not_decoded_between_distant_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "film.mp4", 900)
    monkeypatch.setattr(timestamps, "_MIN_FRAMES_TO_SEEK", 100)
    decoded = 0
    decode_all = video.frames_of

    def counting(container: Any, stream: Any) -> Iterator[Any]:
        nonlocal decoded
        for frame in decode_all(container, stream):
            decoded += 1
            yield frame

    monkeypatch.setattr(video, "frames_of", counting)
    frames = list(video.decode(path, frame_indices=[30, 450, 870], table=read_frame_table(path)))
    assert [frame.index for frame in frames] == [30, 450, 870]
    assert decoded < 60  # 871 from the beginning


def test_a_container_without_an_index_is_decoded_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "film.ts", 200)
    monkeypatch.setattr(timestamps, "_MIN_FRAMES_TO_SEEK", 100)
    table = read_frame_table(path)
    assert len(table) == 200
    assert not table.can_seek
    assert [frame.index for frame in video.decode(path, frame_indices=[5, 150], table=table)] == [5, 150]


def test_a_video_without_times_is_counted_and_not_seeked_in(tmp_path: Path) -> None:
    path = tmp_path / "raw.avi"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=20)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(8):
            image = np.full((48, 64, 3), 16 + i, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode())
    table = read_frame_table(path)
    assert len(table) == 8
    assert table.seconds == pytest.approx([i / 20 for i in range(8)])
