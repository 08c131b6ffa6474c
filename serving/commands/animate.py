"""`sfumato animate`: sources x drivers -> videos. One bad source or driver harms no other; a second run resumes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pipelines import cli
from serving.batch.avatar_maker import ModelAvatarMaker, Recipe
from serving.batch.batch_run import BatchRun
from serving.batch.inputs import find_drivers, find_sources
from serving.batch.workspace import workspace
from training.checkpoints.shipped import named_or_shipped
from training.losses.perceptual_files import PerceptualFiles

if TYPE_CHECKING:
    from training.animation.render import RenderOptions

_PathLists = Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction]


def _flat(name: str, paths: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """`-s a b -s c` as (a, b, c): tyro by itself keeps the last `-s` only."""
    flat = tuple(path for some in paths for path in some)
    if not flat:
        raise FileNotFoundError(f"no {name} given: --{name} is required")  # a usage error, exit code 2
    return flat


def _sources(
    source: Annotated[
        _PathLists,
        tyro.conf.arg(
            aliases=["-s"],
            metavar="PATH ...",
            help='Who moves: avatar folders, pictures, folders of either, "patterns*" (required)',
        ),
    ],
) -> tuple[str, ...]:
    return _flat("source", source)


def _drivers(
    driver: Annotated[
        _PathLists,
        tyro.conf.arg(
            aliases=["-d"], metavar="PATH ...", help='Whose motion: videos, folders of them, "patterns*" (required)'
        ),
    ],
) -> tuple[str, ...]:
    return _flat("driver", driver)


@dataclass(frozen=True)
class Options:
    """Animate every source with every driver. Run again, it makes only what is missing or has changed."""

    source: Annotated[tuple[str, ...], tyro.conf.arg(name="", constructor=_sources)]
    """Who moves: avatar folders, pictures, folders of either, patterns."""
    driver: Annotated[tuple[str, ...], tyro.conf.arg(name="", constructor=_drivers)]
    """Whose motion: videos, folders of them, patterns."""
    out: Annotated[str, tyro.conf.arg(aliases=["-o"])]
    """Folder of the results (path or URL): SOURCE--DRIVER.mp4, .side-by-side.mp4 and .json, SOURCE.mosaic.mp4."""
    model: str | None = None
    """Base model for sources that are pictures: a bundle's path or URL, or models:/sfumato-base@champion; default: the
    one that comes along."""
    num_steps: int | None = None
    """Fine-tuning steps for pictures; 0 for feed-forward only; default: the stop rule decides."""
    face: int | None = None
    """Which face of a picture, counted from the largest, 0; default: the largest."""
    vgg19: str | None = None
    """Weights of Caffe's VGG19, a path or URL, for pictures and a model that was trained with them."""
    vggface: str | None = None
    """Weights of Caffe's VGGFace, likewise."""
    expression: float = 1.0
    """Strength of expression: 0 keeps the portrait's own, 1 is the driver's."""
    head_motion: float = 1.0
    """Strength of head rotation and travel."""
    gaze: float = 1.0
    """Strength of gaze: 0 keeps the portrait's own, 1 is the driver's."""
    smoothing: float = 0.5
    """Temporal smoothing of the motion in [0, 1]: 0 follows every jitter, 1 is slow."""
    frame: Literal["full", "crop"] = "full"
    """The whole picture with a moving face in it, or the crop around the face alone."""
    max_size: int = 1280
    """Longer side of the videos at most, pixels."""
    side_by_side: bool = True
    """Also portrait, driver and result beside each other."""
    mosaic: bool = True
    """Also, for a source with several drivers, its videos in a row."""


def run(options: Options) -> cli.CommandResult:
    """Animate; ends by saying what was made and where.

    Raises:
        FileNotFoundError: a source, driver or model that does not exist.
        ValueError: the model is none, or an option is out of range.
    """
    started = time.perf_counter()
    sources, drivers = find_sources(options.source), find_drivers(options.driver)
    render_options = _render_options(options)
    with workspace(options.out) as space, cli.progress() as progress:
        files = PerceptualFiles.named(options.vgg19, options.vggface)
        recipe = Recipe(named_or_shipped(options.model), options.num_steps, options.face, files)
        studio = ModelAvatarMaker(recipe, space)
        production = BatchRun(space, studio, render_options, progress, side_by_side=options.side_by_side)
        for problem in (*sources.problems, *drivers.problems):
            production.skip(problem)
        production.animate(sources.inputs, drivers.inputs, mosaic=options.mosaic)
    return production.outcome(time.perf_counter() - started)


def _render_options(options: Options) -> RenderOptions:
    from training.animation.render import RenderOptions
    from training.animation.retarget import MotionOptions

    motion = MotionOptions(
        expression=options.expression,
        head_motion=options.head_motion,
        gaze=options.gaze,
        smoothing=options.smoothing,
    )
    return RenderOptions(motion=motion, frame=options.frame, max_size=options.max_size)
