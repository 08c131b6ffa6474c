"""What the credentials of a batch's results say."""

from __future__ import annotations

import shlex
from dataclasses import asdict

import pytest

from pipelines.argument_parser import parse
from serving.batch.items import FILM_PARTS
from serving.batch.marking import animate_command, mosaic_provenance
from serving.batch.results.sidecars import Sidecar, SidecarSource
from serving.commands.animate import Options
from serving.render_options import render_options
from training.animation.render import RenderOptions
from training.animation.retarget import MotionOptions


@pytest.mark.parametrize(
    "options",
    [
        RenderOptions(),
        RenderOptions(max_size=512, fps="25", driver_face="320,180", on_missing="cut", sound="none", frame="crop"),
        RenderOptions(watermark="none", label="AI-generated, not a recording"),
        RenderOptions(MotionOptions(expression=1.4, gaze=0.0, parts=("eyes", "pose"), absolute=True)),
    ],
)
def test_the_command_asks_for_the_same_options(options: RenderOptions) -> None:
    command = animate_command("my portrait.jpg", ["a b.mp4"], asdict(options), more=("--num-steps", "9"))
    words = shlex.split(command)
    assert words[:2] == ["sfumato", "animate"]
    read = parse("animate", Options, words[2:], {})
    assert (read.source, read.driver, read.num_steps) == ((("my portrait.jpg",),), (("a b.mp4",),), 9)
    assert render_options(read) == options


def test_the_command_names_what_is_no_default() -> None:
    plain = "sfumato animate -s f.mp4 -d d.mp4 -o videos"
    assert animate_command("f.mp4", ["d.mp4"], asdict(RenderOptions())) == plain
    dubbed = asdict(RenderOptions(MotionOptions(parts=FILM_PARTS)))
    assert animate_command("f.mp4", ["d.mp4"], dubbed, is_film=True) == plain  # films are dubbed by default
    assert animate_command("p.png", ["d.mp4"], dubbed) == "sfumato animate -s p.png -d d.mp4 -o videos --parts lips"


def test_a_mosaic_has_the_inputs_of_its_videos_without_their_folders() -> None:
    def video(driver: str) -> Sidecar:
        return Sidecar(
            key="k",
            generated_by="Sfumato",
            files=(),
            sources=(SidecarSource("/home/ann/mona.jpg", "1" * 64),),
            drivers=(SidecarSource(driver, "2" * 64),),
            model="3" * 64,
            options=asdict(RenderOptions(max_size=512)),
            frames=1,
            fps="25",
            width=2,
            height=2,
            has_audio=False,
            seconds=1.0,
        )

    found = mosaic_provenance([video("/d/talk.mp4"), video("https://x.org/smile.mp4?signature=secret")])
    assert [(each.role, each.name, each.is_shown) for each in found.ingredients] == [
        ("portrait", "mona.jpg", False),
        ("driver", "talk.mp4", False),
        ("driver", "smile.mp4", False),
    ]
    assert found.command == "sfumato animate -s mona.jpg -d talk.mp4 -d smile.mp4 -o videos --max-size 512"
