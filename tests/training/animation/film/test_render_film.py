"""Films as sources, of drawn faces and a tiny network: what is drawn, when, and with whose sound."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipelines.faces.head_pose import CANONICAL_LANDMARKS
from pipelines.media.frame_times import FrameTimes, frame_times
from pipelines.media.video import VideoWriter, decode, probe
from training.animation.animator import Animator
from training.animation.driver_track import DriverTrack
from training.animation.film.film_shots import film_portraits
from training.animation.film.lay_over import lay_over
from training.animation.film.painter import FilmPainter
from training.animation.film.render_film import COMMENT, Film, render_film
from training.animation.render import RenderOptions
from training.animation.retarget import PARTS, MotionOptions
from training.avatars.finetune import FineTuneConfig, fine_tune
from training.checkpoints.bundle import BaseModel

pytestmark = pytest.mark.slow

DUB = MotionOptions(smoothing=0.0, parts=("lips",))
SPEAKS = CANONICAL_LANDMARKS.copy()
SPEAKS[[*range(55, 60), 65, 66, 67], 1] += 1.5


def to_track(frames: list[np.ndarray], times: FrameTimes, found: str = "") -> DriverTrack:
    seen = np.array([mark == "x" for mark in found or "x" * len(frames)])
    gaze = np.full((len(frames), 2, 2), np.nan, np.float32)
    return DriverTrack(np.stack(frames), gaze, seen, times, "mediapipe")


@pytest.fixture
def film(tmp_path: Path, face: Callable[..., np.ndarray], draw: Callable[..., np.ndarray]) -> Film:
    """Six drawn frames with a pause after the second; the face is missing in the last one."""
    frames = [face(50, 60 + i, 50) for i in range(6)]
    times = frame_times([0.0, 0.04, 0.5, 0.54, 0.58, 0.62], Fraction(25))
    path = tmp_path / "film.mp4"
    with VideoWriter(path, width=120, height=100, fps=Fraction(25), variable=True, crf=1) as writer:
        for landmarks, seconds in zip(frames, times.seconds.tolist(), strict=True):
            writer.write(draw(landmarks, 100, 120), seconds)
    return Film(path, to_track(frames, times, "xxxxx."))


@pytest.fixture
def driver(face: Callable[..., np.ndarray]) -> DriverTrack:
    frames = [face(40), *[face(40, head=SPEAKS)] * 14]
    return to_track(frames, frame_times([i / 25 for i in range(15)], Fraction(25)))


@pytest.fixture
def animator(film: Film, base_model: Callable[..., BaseModel]) -> Animator:
    return Animator(fine_tune(base_model(warp_prior=True), film_portraits(film.path, film.track), FineTuneConfig(0)))


@pytest.mark.parametrize("parts", [("lips",), PARTS])
def test_a_frame_is_its_own_canvas(film: Film, driver: DriverTrack, animator: Animator, parts: tuple[str, ...]) -> None:
    targets = lay_over(film.track, driver, MotionOptions(smoothing=0.0, parts=parts))
    painter = FilmPainter(animator, film.track.landmarks, film.track.gaze, targets, parts, 25.0)
    images = [frame.image for frame in decode(film.path)]
    assert painter.draw(5, images[5]) is images[5]  # no face
    for number in (1, 2):
        changed = np.abs(painter.draw(number, images[number]).astype(int) - images[number]).max(axis=2)
        own = film.track.landmarks[number].round().astype(int)
        mouth = changed[own[66, 1] - 3 : own[66, 1] + 6, own[48, 0] : own[54, 0]]
        assert mouth.max() > 10
        if parts == ("lips",):
            assert changed[: own[41, 1]].max() == 0  # eyes, brows and hair
            assert changed[:, :8].max() == 0


def test_a_film_keeps_its_frames_and_their_times(
    film: Film, driver: DriverTrack, animator: Animator, tmp_path: Path
) -> None:
    done: list[tuple[int, int]] = []
    out = tmp_path / "out.mp4"
    options = RenderOptions(DUB, max_size=96, frame="full")
    report = render_film(
        animator,
        film,
        film.path,
        driver,
        out,
        options,
        side_by_side=tmp_path / "b.mp4",
        on_frame=lambda *at: done.append(at),
    )
    shown = [frame.pts_us / 1e6 for frame in decode(out)]
    assert shown == pytest.approx([0, 0.04, 0.5, 0.54, 0.58, 0.62], abs=1e-3)
    assert (report.frames, report.width, report.height, report.has_audio) == (6, 96, 80, False)
    assert done == [(number, 6) for number in range(1, 7)]
    assert report.notes == (
        "no face in 1 of 6 source frames (0.62-0.66 s): they are shown unchanged",
        "the driver ends after 0.60 of 0.66 s: from there on, the film's own motion is shown",
    )
    assert probe(tmp_path / "b.mp4").width == 1200
    assert COMMENT.encode() in out.read_bytes()
    cropped = render_film(animator, film, None, driver, out, RenderOptions(DUB, frame="crop", fps="10"))
    assert cropped.width == cropped.height == 100
    assert cropped.frames == 7  # 0.66 s at 10 frames a second
