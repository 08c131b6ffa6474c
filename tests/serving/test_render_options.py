"""One set of options for `animate` and for videos of the service."""

from __future__ import annotations

import dataclasses

import pytest

from serving.bodies import VideoOptions
from serving.commands import animate
from serving.render_options import render_options
from training.animation.render import RenderOptions

_ELSEWHERE = {
    "source": "the avatar",
    "driver": "the upload",
    "out": "the result of the job",
    "pairs": "one job a pair",
    "workers": "of the service",
    "ray_address": "of the service",
    "cpus_per_worker": "of the service",
    "gpus_per_worker": "of the service",
    "device": "of the service",
    "model": "of the service",
    "num_steps": "of the service",
    "vgg19": "of the service",
    "vggface": "of the service",
    "face": "of the avatar",
    "preview": "the job's own",
    "mosaic": "one job has one driver",
    "metrics_address": "of the service",
}
"""Options of `animate` that are no options of a video over HTTP -> where the service has them."""


def test_every_option_of_animate_is_one_of_a_video_over_http() -> None:
    of_animate = {field.name: field.default for field in dataclasses.fields(animate.Options)}
    of_videos = {field.name: field.default for field in dataclasses.fields(VideoOptions)}
    assert set(of_videos) == set(of_animate) - set(_ELSEWHERE)
    assert {name for name in of_videos if of_videos[name] != of_animate[name]} == {"parts", "side_by_side"}


def test_the_defaults_are_those_of_the_renderer() -> None:
    assert render_options(VideoOptions()) == RenderOptions()
    assert render_options(animate.Options((("a",),), (("b",),), "out")) == RenderOptions()


def test_each_option_reaches_the_renderer() -> None:
    given = VideoOptions(
        expression=0.5,
        head_motion=0.6,
        gaze=0.7,
        smoothing=0.8,
        parts="lips,gaze",
        motion="absolute",
        driver_face="1",
        on_missing="cut",
        frame="crop",
        max_size=640,
        fps="30",
        sound="none",
        precision="bfloat16",
        watermark="none",
        label="AI-generated",
    )
    made = render_options(given)
    motion = made.motion
    assert (motion.expression, motion.head_motion, motion.gaze, motion.smoothing) == (0.5, 0.6, 0.7, 0.8)
    assert (motion.parts, motion.absolute) == (("lips", "gaze"), True)
    assert (made.driver_face, made.on_missing, made.frame, made.max_size) == ("1", "cut", "crop", 640)
    assert (made.fps, made.sound, made.precision) == ("30", "none", "bfloat16")
    assert (made.watermark, made.label) == ("none", "AI-generated")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (VideoOptions(parts="ears"), "ears"),
        (VideoOptions(max_size=10_000), "max_size must lie in"),
        (VideoOptions(expression=float("nan")), "expression is no number"),
        (VideoOptions(fps="fast"), "fast"),
        (VideoOptions(driver_face="left"), "left"),
        (VideoOptions(label="x" * 61), "a label has at most 60 characters"),
    ],
)
def test_options_out_of_range_are_told_as_on_the_command_line(options: VideoOptions, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        render_options(options)
