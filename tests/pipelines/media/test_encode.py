import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipelines.media import ffmpeg_process
from pipelines.media.encode import VideoWriter
from pipelines.media.ffmpeg_process import ffmpeg_executable
from pipelines.media.sound import find_sound

Fixture = Callable[..., Any]
COLOURS = ((220, 30, 40), (20, 200, 60), (30, 60, 210), (200, 180, 90))


def four_colours() -> np.ndarray:
    image = np.zeros((64, 80, 3), np.uint8)
    image[:32, :40], image[:32, 40:], image[32:, :40], image[32:, 40:] = COLOURS
    return image


def write(path: Path, number: int, fps: Fraction, **options: Any) -> None:
    with VideoWriter(path, width=80, height=64, fps=fps, **options) as writer:
        for _ in range(number):
            writer.write(four_colours())


@pytest.mark.slow
@pytest.mark.parametrize("fps", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(25), Fraction(519168, 19667)])
def test_rate_and_count_are_exact(fps: Fraction, tmp_path: Path) -> None:
    write(tmp_path / "out.mp4", 31, fps)
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == fps
        assert stream.codec_context.codec.canonical_name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert sum(1 for _ in container.decode(stream)) == 31


def test_a_variable_rate_has_the_times_that_it_is_given(tmp_path: Path) -> None:
    times = [0.0, 1 / 30, 2 / 30, 1.5, 1.5 + 1 / 30, 4.0]
    with VideoWriter(tmp_path / "out.mp4", width=80, height=64, fps=Fraction(30), variable=True) as writer:
        for number, seconds in enumerate(times):
            writer.write(np.roll(four_colours(), 9 * number, axis=1), seconds)
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(4.0 + 1 / 30, abs=1e-4)
        shown = [float(frame.pts * frame.time_base) for frame in container.decode(stream)]
    assert shown == pytest.approx(times, abs=1e-5)


def test_a_time_is_needed_with_a_variable_rate_only_and_runs_forwards(tmp_path: Path) -> None:
    def frames(variable: bool, *times: float | None) -> None:
        rate = Fraction(30)
        with VideoWriter(tmp_path / "x.mp4", width=80, height=64, fps=rate, variable=variable) as writer:
            for seconds in times:
                writer.write(four_colours(), seconds)

    for variable, wrong in ((True, None), (False, 0.5)):
        with pytest.raises(ValueError, match="need a time"):
            frames(variable, wrong)
    with pytest.raises(ValueError, match="frame 1 is not later"):
        frames(True, 0.5, 0.5)
    assert list(tmp_path.iterdir()) == []


def test_colours_survive_and_are_tagged(tmp_path: Path) -> None:
    write(tmp_path / "out.mp4", 3, Fraction(25), crf=10)
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
        assert int(frame.colorspace) == 1  # BT.709
        image = frame.to_ndarray(format="rgb24")
    for (y, x), colour in zip([(16, 20), (16, 60), (48, 20), (48, 60)], COLOURS, strict=True):
        assert np.abs(image[y, x].astype(int) - colour).max() <= 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "name", "seconds", "expected"),
    [
        ("aac", "a.mp4", 3.0, "aac"),
        ("aac", "a.mp4", 0.4, "aac"),
        ("libopus", "a.mkv", 3.0, "aac"),
        ("libmp3lame", "a.mp4", 3.0, "mp3"),
    ],
)
def test_sound_is_kept_and_never_changes_the_number_of_frames(
    codec: str, name: str, seconds: float, expected: str, tmp_path: Path, make_video: Fixture, numbered_frame: Fixture
) -> None:
    driver = make_video(name, [numbered_frame(1)] * 25, audio_codec=codec, audio_seconds=seconds)
    write(tmp_path / "out.mp4", 25, Fraction(25), sound=find_sound(driver, Fraction(0))[0])
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 25
    with av.open(str(tmp_path / "out.mp4")) as container:
        sound = container.streams.audio[0]
        assert sound.codec_context.codec.canonical_name == expected
        assert float(sound.duration * sound.time_base) == pytest.approx(min(seconds, 1.0), abs=0.06)
        assert any(np.abs(frame.to_ndarray()).max() > 0 for frame in container.decode(sound))


def test_a_driver_without_sound_gives_none(tmp_path: Path, make_video: Fixture, numbered_frame: Fixture) -> None:
    driver = make_video("silent.mp4", [numbered_frame(1)] * 3)
    write(tmp_path / "out.mp4", 3, Fraction(25), sound=find_sound(driver, Fraction(0))[0])
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert not container.streams.audio


def test_the_comment_is_in_the_metadata_with_and_without_sound(
    tmp_path: Path, make_video: Fixture, numbered_frame: Fixture
) -> None:
    driver = make_video("driver.mp4", [numbered_frame(1)] * 5, audio_codec="aac")
    comment = "made = by 'us'; 100 %"
    for sound in (None, find_sound(driver, Fraction(0))[0]):
        write(tmp_path / "out.mp4", 5, Fraction(25), sound=sound, comment=comment)
        with av.open(str(tmp_path / "out.mp4")) as container:
            assert container.metadata["comment"] == comment


def test_odd_sizes_and_wrong_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="81x64"):
        VideoWriter(tmp_path / "x.mp4", width=81, height=64, fps=Fraction(25))
    with pytest.raises(ValueError, match="fps"):
        VideoWriter(tmp_path / "x.mp4", width=80, height=64, fps=Fraction(0))
    with (
        pytest.raises(ValueError, match=r"\(64, 80, 3\)"),
        VideoWriter(tmp_path / "x.mp4", width=80, height=64, fps=Fraction(25)) as writer,
    ):
        writer.write(np.zeros((64, 78, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"old")
    with pytest.raises(KeyError), VideoWriter(tmp_path / "out.mp4", width=80, height=64, fps=Fraction(25)) as writer:  # noqa: PT012
        writer.write(four_colours())
        raise KeyError
    with pytest.raises(ValueError, match="no frame"):
        write(tmp_path / "out.mp4", 0, Fraction(25))
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"old"


def test_an_ffmpeg_that_dies_is_an_error_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\necho no space left on device >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(ffmpeg_process, "ffmpeg_executable", lambda: str(broken))
    with pytest.raises(OSError, match="no space left on device"):
        write(tmp_path / "out.mp4", 200, Fraction(25))


def test_ffmpeg_comes_from_path_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert Path(ffmpeg_executable()).is_file()
    monkeypatch.setattr(shutil, "which", lambda name: "/somewhere/ffmpeg")
    assert ffmpeg_executable() == "/somewhere/ffmpeg"


def test_odd_names_are_names(tmp_path: Path) -> None:
    path = tmp_path / "-f null %d 'q'.mp4"
    write(path, 2, Fraction(25))
    assert path.stat().st_size > 0
