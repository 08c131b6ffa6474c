"""`sfumato animate`: every source with every driver -> videos. Bad inputs are reported and skipped."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pipelines import cli
from serving.batch.avatar_maker import AvatarOptions, ModelAvatarMaker
from serving.batch.batch_run import BatchRun
from serving.batch.inputs import find_drivers, find_sources
from serving.batch.workspace import open_workspace
from training.checkpoints.shipped import named_or_shipped
from training.losses.perceptual_files import PerceptualFiles

if TYPE_CHECKING:
    from training.animation.render import RenderOptions

_PathLists = Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction]
"""One tuple for each time that the flag is given: without UseAppendAction, tyro keeps the last one only."""


@dataclass(frozen=True)
class Options:
    """Animate every source with every driver. A second run makes only the videos that are missing or have changed."""

    source: Annotated[_PathLists, tyro.conf.arg(aliases=["-s"], metavar="PATH ...")]
    """Faces to animate: avatar folders, pictures, folders of either, "patterns*" (required)"""
    driver: Annotated[_PathLists, tyro.conf.arg(aliases=["-d"], metavar="PATH ...")]
    """Videos that give the motion, folders of them, "patterns*" (required)"""
    out: Annotated[str, tyro.conf.arg(aliases=["-o"])]
    """Folder of the results (path or URL): SOURCE--DRIVER.mp4, .side-by-side.mp4 and .json, SOURCE.mosaic.mp4."""
    model: str | None = None
    """Base model for sources that are pictures: a bundle's path or URL, or models:/sfumato-base@champion; default: the
    bundled one."""
    num_steps: int | None = None
    """Fine-tuning steps for pictures; 0 for feed-forward only; default: the stop rule decides."""
    face: int | None = None
    """Index of the face in a picture, from 0 for the largest; default: the largest."""
    vgg19: str | None = None
    """Path or URL of the Caffe VGG19 weights, for pictures and a model that was trained with them."""
    vggface: str | None = None
    """Path or URL of the Caffe VGGFace weights, for pictures and a model that was trained with them."""
    expression: float = 1.0
    """Strength of the driver's expression: 0 keeps the portrait's own, 1 is the driver's."""
    head_motion: float = 1.0
    """Strength of the driver's head rotation and translation: 0 keeps the portrait's own, 1 is the driver's."""
    gaze: float = 1.0
    """Strength of the driver's gaze: 0 keeps the portrait's own, 1 is the driver's."""
    smoothing: float = 0.5
    """Temporal smoothing of the motion in [0, 1]: 0 keeps all jitter, 1 lags most."""
    frame: Literal["full", "crop"] = "full"
    """Render the whole picture with the animated face in it, or only the crop around the face."""
    max_size: int = 1280
    """Maximum length of the videos' longer side, pixels."""
    side_by_side: bool = True
    """Also write a video of portrait, driver and result side by side."""
    mosaic: bool = True
    """Also write, for a source with several drivers, one video with its results in a row."""

    def __post_init__(self) -> None:
        for name in ("source", "driver"):  # tyro takes a flag that can be repeated for optional
            if not _flat(getattr(self, name)):
                raise FileNotFoundError(f"no {name} given: --{name} is required")  # exit code 2


def run(options: Options) -> cli.CommandResult:
    """Animate every source with every driver.

    Raises:
        FileNotFoundError: a source, driver or model does not exist.
        ValueError: the model is not a base model, or an option is out of range.
    """
    started = time.perf_counter()
    sources, drivers = find_sources(_flat(options.source)), find_drivers(_flat(options.driver))
    render_options = _render_options(options)
    with open_workspace(options.out) as workspace, cli.progress() as progress:
        files = PerceptualFiles.named(options.vgg19, options.vggface)
        avatar_options = AvatarOptions(named_or_shipped(options.model), options.num_steps, options.face, files)
        maker = ModelAvatarMaker(avatar_options, workspace)
        batch = BatchRun(workspace, maker, render_options, progress, side_by_side=options.side_by_side)
        for problem in (*sources.problems, *drivers.problems):
            batch.skip(problem)
        batch.animate(sources.inputs, drivers.inputs, mosaic=options.mosaic)
    return batch.result(time.perf_counter() - started)


def _flat(lists: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """Join the paths of `-s a b -s c`."""
    return tuple(path for paths in lists for path in paths)


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
