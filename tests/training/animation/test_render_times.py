"""When frames of a video are shown, and what becomes of a driver's sound that cannot be used."""

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from followed_faces import Follower, MakeFace, moving
from media_corpus import ffmpeg

from pipelines.media.video import VideoWriter
from training.animation.animator import Animator
from training.animation.render import RenderOptions, RenderReport, animate
from training.animation.retarget import MotionOptions
from training.avatars.avatar import Avatar
from training.avatars.finetune import FineTuneConfig, fine_tune
from training.avatars.portraits import Portrait
from training.checkpoints.bundle import BaseModel

RAW = RenderOptions(MotionOptions(smoothing=0.0, neutral_frame=0))


@pytest.fixture
def avatar(base_model: Callable[..., BaseModel], portrait: Callable[..., Portrait]) -> Avatar:
    return fine_tune(base_model(warp_prior=True), [portrait(24.0)], FineTuneConfig(0))


def animate_with(avatar: Avatar, driver: Path, out: Path, options: RenderOptions, **more: Any) -> RenderReport:
    return animate(Animator(avatar, max_size=options.max_size), driver, out, options, **more)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fps", "expected", "numbers"),
    [
        ("keep", [0, 0.04, 0.08, 0.5, 0.54], [0, 1, 2, 3, 4]),
        ("10", [0, 0.1, 0.2, 0.3, 0.4, 0.5], [0, 2, 2, 2, 2, 3]),
        ("12.5", [0, 0.08, 0.16, 0.24, 0.32, 0.4, 0.48], [0, 2, 2, 2, 2, 2, 3]),
    ],
)
def test_frames_are_shown_when_the_driver_shows_them_or_at_a_constant_rate(
    fps: str,
    expected: list[float],
    numbers: list[int],
    avatar: Avatar,
    face: MakeFace,
    tmp_path: Path,
) -> None:
    """A driver that shows nothing new from 0.08 to 0.5 s. Of frames that are repeated, each is drawn once."""
    driver, out, beside = tmp_path / "driver.mp4", tmp_path / "out.mp4", tmp_path / "beside.mp4"
    with VideoWriter(driver, width=96, height=64, fps=Fraction(25), variable=True) as writer:
        for number, seconds in enumerate((0, 0.04, 0.08, 0.5, 0.54)):
            writer.write(np.full((64, 96, 3), 40 * number, np.uint8), float(seconds))
    options = dataclasses.replace(RAW, fps=fps)
    report = animate_with(avatar, driver, out, options, detector=Follower(moving(face, 5)), side_by_side=beside)
    for path in (out, beside):
        with av.open(str(path)) as container:
            frames = [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
        assert [seconds for seconds, _ in frames] == pytest.approx(expected, abs=1e-4)
    assert (report.frames, report.driver_frames) == (len(expected), 5)
    assert report.fps == (Fraction(5 * 100, 58) if fps == "keep" else Fraction(fps))
    # The middle tile of the comparison is the driver's frame at that time: brighter by 40 with each.
    shown = [round(float(picture[150:250, 550:650].mean()) / 40) for _, picture in frames]
    assert shown == numbers


@pytest.mark.slow
def test_a_driver_whose_sound_cannot_be_used_gives_a_silent_video_and_a_note(
    avatar: Avatar, face: MakeFace, tmp_path: Path
) -> None:
    driver = tmp_path / "driver.mov"
    picture, tone = "color=gray:s=96x64:r=25:d=0.12", "sine=440:d=0.12"
    ffmpeg(*f"-f lavfi -i {picture} -f lavfi -i {tone} -pix_fmt yuv420p -c:a pcm_s16le {driver}".split())
    driver.write_bytes(driver.read_bytes().replace(b"sowt", b"zzz1"))
    report = animate_with(avatar, driver, tmp_path / "o.mp4", RAW, detector=Follower(moving(face, 3)))
    assert not report.has_audio
    assert report.notes == ("the video is silent: its sound stream cannot be decoded",)
    with pytest.raises(ValueError, match="fps must be keep or a number"):
        RenderOptions(fps="often")
