"""Sound stays in step with the picture: a beep is measured by ffmpeg's program. More in test_corpus.py."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_corpus import ffmpeg

from pipelines.media.encode import VideoWriter
from pipelines.media.sound import Sound, find_sound

RATE = 48_000


def beeping(path: Path, times: tuple[float, ...], *, holes: tuple[tuple[float, float], ...] = ()) -> Path:
    """Sound with 50 ms of a tone at these times; packets inside the holes are left out."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=RATE, layout="mono")
        at = np.arange(2 * RATE) / RATE
        on = np.any([(at >= time) & (at < time + 0.05) for time in times], axis=0)
        wave = (np.sin(at * 2 * np.pi * 1000) * on * 20_000).astype(np.int16)
        for begin in range(0, len(wave), 480):
            if any(first <= begin / RATE < last for first, last in holes):
                continue
            frame = av.AudioFrame.from_ndarray(wave[None, begin : begin + 480], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, begin, Fraction(1, RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def write(path: Path, sound: Sound | None, num_frames: int = 50) -> str | None:
    with VideoWriter(path, width=64, height=48, fps=Fraction(25), sound=sound) as writer:
        for number in range(num_frames):
            writer.write(np.full((48, 64, 3), 4 * number, np.uint8))
    return writer.sound_problem


def beeps(path: Path) -> list[float]:
    """Times at which silence ends, on the video's clock."""
    data = ffmpeg("-copyts", "-i", str(path), "-af", f"aresample={RATE}:async=1:first_pts=0", "-f", "f32le", "pipe:1")
    loud = np.flatnonzero(np.abs(np.frombuffer(data, np.float32)) > 0.2)
    return [float(loud[i]) / RATE for i in range(len(loud)) if i == 0 or loud[i] - loud[i - 1] > RATE // 20]


def found(path: Path, picture_begins_s: Fraction = Fraction(0)) -> Sound:
    sound, note = find_sound(path, picture_begins_s)
    assert sound is not None
    assert note is None
    return sound


@pytest.mark.slow
def test_a_hole_in_the_sound_stays_a_hole(tmp_path: Path) -> None:
    path = beeping(tmp_path / "x.mkv", (0.2, 1.5), holes=((0.5, 1.2),))
    assert write(tmp_path / "out.mp4", found(path)) is None
    assert beeps(tmp_path / "out.mp4") == pytest.approx([0.2, 1.5], abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("begins", [Fraction(1, 5), Fraction(-3, 10)])
def test_the_pictures_beginning_is_the_new_zero(begins: Fraction, tmp_path: Path) -> None:
    path = beeping(tmp_path / "x.mkv", (0.6, 1.1))
    assert write(tmp_path / "out.mp4", found(path, begins)) is None
    assert beeps(tmp_path / "out.mp4") == pytest.approx([0.6 - begins, 1.1 - begins], abs=0.02)


@pytest.mark.slow
def test_copied_sound_is_cut_to_the_video_and_in_step(tmp_path: Path) -> None:
    wav = beeping(tmp_path / "x.mkv", (0.3, 1.9))
    ffmpeg("-i", str(wav), "-c:a", "aac", str(tmp_path / "x.m4a"))
    sound = found(tmp_path / "x.m4a")
    assert sound.is_copied
    write(tmp_path / "out.mp4", sound, num_frames=25)
    assert beeps(tmp_path / "out.mp4") == pytest.approx([0.3], abs=0.02)
    # AAC that begins before the picture can only be cut by decoding it.
    early = replace(sound, picture_begins_s=Fraction(1, 10))
    assert not early.is_copied
    write(tmp_path / "out.mp4", early, num_frames=25)
    assert beeps(tmp_path / "out.mp4") == pytest.approx([0.2], abs=0.02)


def test_sound_that_fails_after_all_leaves_a_silent_video(tmp_path: Path) -> None:
    sound = replace(found(beeping(tmp_path / "x.mkv", (0.2,))), index=7)
    problem = write(tmp_path / "out.mp4", sound, num_frames=3)
    assert problem
    assert "\n" not in problem
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert not container.streams.audio
        assert sum(1 for _ in container.decode(video=0)) == 3
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["pcm_s16le", "aac"])
def test_parts_of_the_sound_follow_each_other_in_step_with_the_picture(codec: str, tmp_path: Path) -> None:
    """Beeps at 0.3, 0.9 and 1.6 s; kept are 0.2-0.5 and 1.0-2.0 s, which begin at 0 and 0.3 s."""
    path = beeping(tmp_path / "x.mkv", (0.3, 0.9, 1.6))
    if codec == "aac":
        ffmpeg("-i", str(path), "-c:a", "aac", str(tmp_path / "y.mp4"))
        path = tmp_path / "y.mp4"
    heard = replace(found(path), kept=((0.2, 0.5), (1.0, 2.0)))
    assert write(tmp_path / "out.mp4", heard, num_frames=30) is None
    assert beeps(tmp_path / "out.mp4") == pytest.approx([0.1, 0.9], abs=0.02)


@pytest.mark.slow
def test_many_cuts_do_not_add_up(tmp_path: Path) -> None:
    """Every other frame of 25 a second is kept: a beep at 1.92 s, in the last frame kept, is heard at 0.96 s."""
    path = beeping(tmp_path / "x.mkv", (1.92,))
    heard = replace(found(path), kept=tuple((number / 25, (number + 1) / 25) for number in range(0, 50, 2)))
    assert write(tmp_path / "out.mp4", heard, num_frames=25) is None
    assert beeps(tmp_path / "out.mp4") == pytest.approx([0.96], abs=0.02)
