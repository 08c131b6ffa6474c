"""Previews of drawn faces: the frames that are chosen, and the warnings."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from followed_faces import Follower

from pipelines import assets
from pipelines.faces.detectors import create_detector
from pipelines.faces.head_pose import CANONICAL_LANDMARKS
from pipelines.faces.identity.face_choice import LARGEST, FaceChoice
from pipelines.faces.identity.sface import FaceRecogniser
from pipelines.media.frame_times import FrameTimes
from pipelines.media.video import VideoWriter
from training.animation.animator import Animator
from training.animation.checks.bent_limits import bent_frames
from training.animation.driver_track import DriverTrack
from training.animation.preview.advice import driver_warnings, portrait_warnings
from training.animation.preview.driver_sample import DriverSample, sample_driver
from training.animation.preview.preview import make_previews, plan_preview
from training.animation.render import RenderOptions
from training.animation.retarget import MotionOptions
from training.avatars.finetune import FineTuneConfig, fine_tune
from training.avatars.portraits import Portrait
from training.checkpoints.bundle import BaseModel

MakeFace = Callable[..., np.ndarray]
OPEN = CANONICAL_LANDMARKS.copy()
OPEN[[57, 66], 1] += 2.5  # the lower lip
SHUT = CANONICAL_LANDMARKS.copy()
SHUT[36:48, 1] = -2.6
PICTURE = np.full((300, 300, 3), 90, np.uint8)


def sample(*landmarks: np.ndarray, **changes: object) -> DriverSample:
    number = len(landmarks)
    times = FrameTimes(np.arange(number) / 1.0, Fraction(1), constant=True)
    gaze = np.full((number, 2, 2), np.nan, np.float32)
    track = DriverTrack(np.stack(landmarks), gaze, np.ones(number, bool), times, "mediapipe")
    made = DriverSample((PICTURE,) * number, (1.0,) * number, track, (0.0,) * number, 100.0, number, (), 0, 0)
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ({}, []),
        ({"yaw": 40.0}, ["profile: the head is turned by"]),
        ({"roll": 60.0}, ["tilted: the head is tilted by 60 degrees"]),
        ({"size": 40.0}, ["tiny face: "]),
        ({"head": OPEN}, ["mouth open at rest"]),
        ({"head": SHUT}, ["eyes shut at rest"]),
        ({"x": 20.0}, ["cut face"]),
    ],
)
def test_a_portrait_has_the_warnings_of_its_face(place: dict[str, object], words: list[str], face: MakeFace) -> None:
    points = face(**{"size": 120.0, "x": 150.0, "y": 150.0} | place)
    warnings = portrait_warnings(Portrait(PICTURE, points, "a.png", "0" * 64))
    assert len(warnings) == len(words)
    for warning, word in zip(warnings, words, strict=True):
        assert warning.startswith(f"portrait: {word}")


def test_a_driver_has_the_warnings_of_its_frames(face: MakeFace) -> None:
    turned = face(100, 150, 150, yaw=40)
    seen = sample(turned, turned, num_frames=9, without_face=(0.5, 1.0), num_others=3, num_crowded=4, face_size=30.0)
    assert driver_warnings(seen, np.array([True, False])) == [
        "driver: no face in 2 of 9 frames (at 0.5, 1.0 s)",
        "driver: several faces in 4 of 9 frames: --driver-face chooses",
        "driver: somebody else instead of the person in 3 of 9 frames",
        "driver: tiny face: 30 px, under 64",
        "driver: profile: the head never faces the camera",
        "driver: the limits of turns bend the motion in 1 of 9 frames",
    ]
    assert driver_warnings(sample(face(100, 150, 150)), np.array([False])) == []


def test_a_turn_is_bent_where_the_portrait_turns_less_than_the_driver(face: MakeFace) -> None:
    source, driver = face(100, 150, 150), np.stack([face(80, 100, 100, yaw=yaw) for yaw in (0, 4, 20, 50)])
    followed = np.stack([face(100, 150, 150, yaw=yaw) for yaw in (0, 4, 18, 27)])
    options = MotionOptions(neutral_frame=0)
    assert bent_frames(source, driver, followed, options).tolist() == [False, False, False, True]
    assert not bent_frames(source, driver, followed, replace(options, head_motion=0.5)).any()  # 25 degrees asked for


def test_the_preview_has_a_column_for_each_extreme_frame(
    base_model: Callable[..., BaseModel], portrait: Callable[..., Portrait], face: MakeFace
) -> None:
    avatar = fine_tune(base_model(warp_prior=True), [portrait(24.0)], FineTuneConfig(0))
    heads = [face(100, 150, 150, yaw=yaw, head=head) for yaw, head in ((0, SHUT), (-15, OPEN), (15, SHUT))]
    animator = Animator(avatar, max_size=64)
    (preview,) = make_previews([plan_preview(animator, sample(*heads), RenderOptions())])
    assert preview.warnings
    assert preview.picture.shape == (416 + 22 * len(preview.warnings) + 10, 2 * 416 + 5 * 208, 3)
    other = replace(sample(*heads).track, detector="dlib")
    with pytest.raises(ValueError, match="trained on mediapipe landmarks, the driver's are dlib"):
        plan_preview(animator, replace(sample(*heads), track=other), RenderOptions())


class _Level(FaceRecogniser):
    """Tells people apart by brightness."""

    def embed_aligned(self, faces):  # type: ignore[no-untyped-def]
        angle = np.array([image.mean() / 160 for image in faces])
        return np.stack([np.cos(angle), np.sin(angle)], -1)


def test_a_few_frames_are_looked_at_and_the_person_is_told_from_others(
    face: MakeFace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six frames: two without a face, two of somebody else, who is darker, one of two people."""
    monkeypatch.setattr("training.animation.preview.driver_sample.FaceRecogniser", _Level)
    with VideoWriter(tmp_path / "d.mp4", width=96, height=64, fps=Fraction(25)) as writer:
        for level in (240, 240, 240, 20, 20, 240):
            writer.write(np.full((64, 96, 3), level, np.uint8))
    one, two = face(30, 30, 34), face(20, 70, 34)
    seen = sample_driver(tmp_path / "d.mp4", Follower([[one], [], [], [one], [one], [one, two]]), LARGEST, 6)
    assert (seen.num_frames, len(seen.track), seen.num_others, seen.num_crowded) == (6, 2, 2, 1)
    assert seen.without_face == pytest.approx((0.04, 0.08))
    assert seen.face_size == pytest.approx(np.ptp(one, axis=0).max(), abs=0.1)
    with pytest.raises(ValueError, match=r"d\.mp4: face 3 was asked for, but only 1 found"):
        sample_driver(tmp_path / "d.mp4", Follower([[one]] * 6), FaceChoice(3), 6)
    with pytest.raises(ValueError, match=r"d\.mp4: no face found in 6 frames"):
        sample_driver(tmp_path / "d.mp4", Follower([[]] * 6), LARGEST, 6)


@pytest.mark.slow
def test_a_real_driver_is_seen_in_all_of_its_frames_that_have_a_face() -> None:
    seen = sample_driver(assets.fetch("clip_noface_face"), create_detector(), LARGEST, 12)
    assert (seen.num_frames, seen.num_others, seen.num_crowded) == (12, 0, 0)
    assert len(seen.track) + len(seen.without_face) == 12
    assert max(seen.without_face[:-1]) < 4.5  # the man comes after 3.9 s, and has gone in the last frame
