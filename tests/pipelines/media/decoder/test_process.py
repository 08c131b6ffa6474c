"""The child process: the same frames as in process, and one clip lost when it crashes, hangs or takes too much."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.media import video
from pipelines.media.decoder.process import Decoder, DecoderDied, Limits

Fixture = Callable[..., Any]


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    with Decoder() as decoder:
        yield decoder


@pytest.fixture
def video_path(make_video: Fixture, numbered_frame: Fixture) -> Path:
    """30 numbered frames at 25 fps, with a second of sound."""
    path: Path = make_video("film.mp4", [numbered_frame(i % 25) for i in range(30)], audio_codec="aac")
    return path


def pid_of(decoder: Decoder) -> int:
    assert decoder._child is not None
    return decoder._child.pid


@pytest.mark.slow
def test_frames_and_facts_are_those_of_decoding_in_process(decoder: Decoder, video_path: Path) -> None:
    info = decoder.describe(video_path)
    assert (info.width, info.height, info.fps, info.num_frames, info.first) == (64, 48, Fraction(25), 30, 0)
    ours = list(decoder.frames(video_path, [3, 17, 29, 99]))
    theirs = list(video.decode(video_path, frame_indices=[3, 17, 29]))
    assert [(f.index, f.pts_us) for f in ours] == [(f.index, f.pts_us) for f in theirs]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(ours, theirs, strict=True))
    audio = decoder.audio(video_path)
    assert audio is not None
    assert audio[1] == "m4a"


@pytest.mark.slow
def test_a_picture_is_decoded_or_refused_as_in_process(decoder: Decoder, tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # shown turned by a quarter
    Image.new("RGB", (9, 4)).save(tmp_path / "turned.jpg", exif=turned)
    assert decoder.picture(tmp_path / "turned.jpg") == (4, 9)
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.jpg is not a JPEG"):
        decoder.picture(tmp_path / "text.jpg")


@pytest.mark.slow
def test_one_child_serves_many_files(decoder: Decoder, video_path: Path, tmp_path: Path) -> None:
    decoder.describe(video_path)
    first = pid_of(decoder)
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.mp4 is not a readable video"):
        decoder.describe(tmp_path / "text.mp4")
    with pytest.raises(FileNotFoundError, match="gone"):
        decoder.describe(tmp_path / "gone.mp4")
    assert decoder.describe(video_path).num_frames == 30
    assert pid_of(decoder) == first


@pytest.mark.slow
def test_a_span_is_a_part_of_the_video(decoder: Decoder, video_path: Path) -> None:
    span = (Fraction(10, 25), Fraction(20, 25))
    info = decoder.describe(video_path, span)
    assert (info.first, info.last, info.start_us) == (10, 19, 400_000)
    assert decoder.times(video_path, [10, 12, 99]) == pytest.approx({10: 0.4, 12: 0.48})
    with pytest.raises(ValueError, match=r"no frame between 90\.00 s and 91\.00 s"):
        decoder.describe(video_path, (Fraction(90), Fraction(91)))


@pytest.mark.slow
def test_the_sound_of_a_span_is_cut_out(decoder: Decoder, video_path: Path) -> None:
    import io

    import av

    audio = decoder.audio(video_path, (Fraction(1, 4), Fraction(3, 4)))
    assert audio is not None
    with av.open(io.BytesIO(audio[0])) as container:
        assert sum(f.samples for f in container.decode(audio=0)) / 48000 == pytest.approx(0.5, abs=0.06)


@pytest.mark.slow
def test_a_killed_child_costs_one_clip_and_the_next_one_gets_another(decoder: Decoder, video_path: Path) -> None:
    frames = decoder.frames(video_path, range(30))
    next(frames)
    os.kill(pid_of(decoder), signal.SIGKILL)
    with pytest.raises(DecoderDied, match=r"the decoder crashed \(signal SIGKILL\)") as caught:
        list(frames)
    assert not caught.value.timed_out
    assert decoder.describe(video_path).num_frames == 30


@pytest.mark.slow
def test_a_start_does_not_wait_and_another_follows_a_child_killed_before_it_was_ready(video_path: Path) -> None:
    with Decoder() as decoder:
        decoder.start()
        assert not decoder._ready
        os.kill(decoder._child.pid, signal.SIGKILL)
        decoder._child.wait()
        decoder.start()
        assert decoder.describe(video_path).num_frames == 30


def test_a_hanging_child_is_ended(video_path: Path) -> None:
    with Decoder(Limits(stall_s=1.0)) as decoder:
        decoder.describe(video_path)
        os.kill(pid_of(decoder), signal.SIGSTOP)
        with pytest.raises(DecoderDied, match="the decoder took longer than 1 s") as caught:
            decoder.describe(video_path)
        assert caught.value.timed_out
        assert decoder.describe(video_path).num_frames == 30


@pytest.mark.slow
def test_a_clip_that_takes_too_long_is_ended_though_it_gets_on(video_path: Path) -> None:
    with Decoder(Limits(clip_s=0.0)) as decoder, pytest.raises(DecoderDied, match="longer than 0 s"):
        decoder.describe(video_path)


@pytest.mark.slow
def test_memory_is_limited(make_video: Fixture) -> None:
    small = make_video("small.mp4", [np.zeros((48, 64, 3), np.uint8)] * 2)
    wide = make_video("wide.mp4", [np.zeros((2160, 3840, 3), np.uint8)] * 2)
    with Decoder() as decoder:
        decoder.describe(small)
        status = Path(f"/proc/{pid_of(decoder)}/status").read_text()
    idle_kb = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmSize")))
    # A 4K picture is 25 MB as RGB, and its decoder keeps several.
    with Decoder(Limits(memory_bytes=idle_kb * 1024 + 4 * 2**20)) as decoder:
        assert decoder.describe(small).num_frames == 2
        with pytest.raises(DecoderDied, match=r"GiB of memory|crashed"):
            list(decoder.frames(wide, [0, 1]))
        assert decoder.describe(small).num_frames == 2


@pytest.mark.slow
def test_leaving_early_does_not_mix_up_answers(decoder: Decoder, video_path: Path) -> None:
    for frame in decoder.frames(video_path, range(30)):
        assert frame.index == 0
        break
    assert decoder.describe(video_path).num_frames == 30


@pytest.mark.slow
def test_the_child_ends_with_its_owner(video_path: Path) -> None:
    decoder = Decoder()
    decoder.describe(video_path)
    child = decoder._child
    assert child is not None
    assert child.stdin is not None
    child.stdin.close()  # as when the owner is killed
    begin = time.monotonic()
    assert child.wait(timeout=10) == 0
    assert time.monotonic() - begin < 10
    decoder.close()
