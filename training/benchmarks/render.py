"""`sfumato bench render`: the cost of a rendered frame, relative to its parts alone.

Measured in interleaved rounds of one run, as medians per frame:

    decode      PyAV decodes the driver
    detection   the landmark detector on decoded frames
    networks    the generator on fixed inputs, nothing warped
    encode      ffmpeg encodes finished frames
    drawing     all that draws frames, with the networks: warps, correction, blending
    end to end  what `animate` does: all of it, stages overlapping

End to end over the sum of decode, detection, networks and encode is the overhead of everything that is not a library's
or a network's own work.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from rich.table import Table
from torch import Tensor

from pipelines import assets, storage
from pipelines.benchmarks.rounds import BenchmarkResult, Cost, measure_interleaved
from pipelines.cli import CommandResult, console
from pipelines.faces.detectors import create_detector
from pipelines.faces.face import LandmarkDetector
from pipelines.machine import describe_machine, in_words
from pipelines.media.video import VideoWriter, decode
from training.animation.animator import Animator
from training.animation.driver_track import DriverTrack, track_driver
from training.animation.joint.parts import BATCH
from training.animation.render import RenderOptions, animate, follow
from training.animation.views.views import View
from training.avatars.avatar import Avatar
from training.avatars.finetune import FineTuneConfig, fine_tune
from training.avatars.portraits import Portrait, find_portraits
from training.checkpoints.bundle import BaseModel, load_bundle
from training.checkpoints.model_registry import locate
from training.device import choose_device
from training.models.generator import GeneratedFrame
from training.warp.apply import WarpInput
from training.warp.field import WarpField

_PARTS = ("decode", "detection", "networks", "encode")
_MOST_SHOTS = 8
_FILM, _FILM_SIDE = "clip_langer", 512


@dataclass(frozen=True)
class Options:
    """CPU and wall-clock time of a rendered frame, compared with decoding, detection, networks and encoding alone."""

    model: str | None = None
    """Base model: a bundle's path or URL, or models:/NAME@ALIAS; default: the bundled one."""
    driver: str | None = None
    """Driver video; default: the catalogue's clip_carphone."""
    rounds: int = 3
    """Number of rounds; the median is reported."""
    device: str = "auto"
    """Device of the networks: auto (a CUDA device if there is one), cpu, cuda or cuda:N."""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {self.rounds}")


@dataclass(frozen=True)
class Case:
    """One kind of video."""

    name: str
    avatar: Avatar
    options: RenderOptions


def run(options: Options) -> CommandResult:
    """Run the benchmark.

    Raises:
        FileNotFoundError: model or driver does not exist.
        ValueError: the model has no warp prior, or the driver shows no face.
    """
    started = time.monotonic()
    driver = Path(options.driver) if options.driver else assets.fetch("clip_carphone")
    model, device = load_bundle(locate(options.model)), choose_device(options.device)
    if not model.config.model.warp_prior:
        raise ValueError("bench render measures models with a warp prior; this one has none")
    detector = create_detector(model.config.model.detector)
    track = track_driver(driver, detector)
    with storage.ScratchFolder() as folder:
        figures = {
            case.name: _measure(case, driver, track, detector, device, options.rounds, Path(folder))
            for case in _cases(model, detector)
        }
    machine = describe_machine("torch", "opencv-python", "mediapipe", "av")
    console().print(_table(figures, in_words({**machine, "device": str(device)})))
    ratios = {f"{name}: end to end over parts": _overhead(costs) for name, costs in figures.items()}
    return BenchmarkResult(
        made=(),
        counts={"videos": len(figures), "frames": len(track), "rounds": options.rounds},
        seconds=time.monotonic() - started,
        notes=tuple(f"{name}: {ratio:.2f}" for name, ratio in ratios.items()),
        figures={name: {stage: asdict(cost) for stage, cost in costs.items()} for name, costs in figures.items()}
        | {"machine": machine},
        ratios=ratios,
    )


def _overhead(costs: Mapping[str, Cost]) -> float:
    return costs["end to end"].cpu_s / sum(costs[part].cpu_s for part in _PARTS)


def _cases(model: BaseModel, detector: LandmarkDetector) -> Iterator[Case]:
    """Yield the Mona Lisa, whole and her crop, and a person of a clip from one frame and from eight."""
    mona_lisa = fine_tune(model, find_portraits([str(assets.fetch("mona_lisa"))], detector), FineTuneConfig(0))
    yield Case("Mona Lisa, full", mona_lisa, RenderOptions())
    yield Case("Mona Lisa, crop", mona_lisa, RenderOptions(frame="crop"))
    pictures = list(_pictures(detector))
    for number in (1, _MOST_SHOTS):
        person = fine_tune(model, pictures[:number], FineTuneConfig(0))
        yield Case(f"{_FILM_SIDE} px, T = {number}", person, RenderOptions(max_size=_FILM_SIDE))


def _pictures(detector: LandmarkDetector) -> Iterator[Portrait]:
    """Yield frames of a clip in which the detector finds a face, evenly spaced."""
    frames = [frame.image for frame in decode(assets.fetch(_FILM))]
    for index in np.linspace(0, len(frames) - 1, _MOST_SHOTS).round().astype(int):
        if faces := detector.detect(frames[index]):
            yield Portrait(frames[index], faces[0].landmarks, f"frame {index}", str(index), faces[0].gaze)


def _measure(
    case: Case,
    driver: Path,
    track: DriverTrack,
    detector: LandmarkDetector,
    device: torch.device,
    rounds: int,
    folder: Path,
) -> dict[str, Cost]:
    animator = Animator(case.avatar, max_size=case.options.max_size, device=device)
    view = View.of(animator, case.options.frame)
    motion = follow(animator, track, case.options.motion)
    images = [frame.image for frame in decode(driver)]
    pictures = [view.picture(region) for region in animator.frames(*motion)]
    networks = _RecordedNetwork(animator)

    def encode() -> None:
        with VideoWriter(folder / "encoded.mp4", width=view.width, height=view.height, fps=track.times.fps) as writer:
            for picture in pictures:
                writer.write(picture)

    def render() -> None:
        animate(animator, driver, folder / "rendered.mp4", case.options, detector=detector)

    methods: dict[str, tuple[Callable[[], object], int]] = {
        "decode": (lambda: sum(1 for _ in decode(driver)), len(track)),
        "detection": (lambda: [detector.detect(image) for image in images], len(track)),
        "networks": (networks, BATCH),
        "encode": (encode, len(track)),
        "drawing": (lambda: sum(1 for _ in animator.frames(*motion)), len(track)),
        "end to end": (render, len(track)),
    }
    return measure_interleaved(methods, rounds, warm_up=rounds > 1)


@dataclass(frozen=True)
class _RecordedWarp:
    """A generator's input whose warps are done."""

    field: WarpField
    frame: Float[Tensor, "batch 4 h w"]
    landmark_image: Float[Tensor, "batch 3 h w"]
    matte: Float[Tensor, "batch 1 h w"]
    displaced: Float[Tensor, "batch h w 2"]

    def moved(self, field: WarpField) -> Float[Tensor, "batch 4 h w"]:  # noqa: ARG002
        return self.frame

    def displacement(self, field: WarpField) -> Float[Tensor, "batch h w 2"]:  # noqa: ARG002
        return self.displaced


class _RecordedNetwork:
    """Runs an animator's generator on one batch that was recorded: what the networks alone cost."""

    def __init__(self, animator: Animator) -> None:
        recorded: list[tuple[Tensor, Tensor, WarpInput]] = []
        generate = animator.generate

        def record(images: Tensor, adain: Tensor, warped: WarpInput | None) -> GeneratedFrame:
            assert warped is not None
            recorded.append((images, adain, warped))
            return generate(images, adain, warped)

        animator.generate = record  # type: ignore[method-assign]
        landmarks = animator.shots[0].landmarks[None].repeat(BATCH, axis=0)
        animator.draw(0, landmarks, None)
        animator.generate = generate  # type: ignore[method-assign]
        self._generator = animator.generator
        ((self._images, self._adain, warped),) = recorded
        self._warped = _RecordedWarp(
            warped.field, warped.frame, warped.landmark_image, warped.matte, warped.displacement(warped.field)
        )

    @torch.inference_mode()
    def __call__(self) -> None:
        self._generator(self._images, self._adain, self._warped)
        if self._images.is_cuda:
            torch.cuda.synchronize()


def _table(figures: Mapping[str, Mapping[str, Cost]], machine: str) -> Table:
    table = Table(title=f"Milliseconds per frame, CPU / wall ({machine})", title_justify="left")
    stages = list(next(iter(figures.values())))
    for column in ("", *stages, "over parts"):
        table.add_column(column, justify="left" if not column else "right")
    for name, costs in figures.items():
        cells = [f"{1000 * costs[stage].cpu_s:.1f} / {1000 * costs[stage].wall_s:.1f}" for stage in stages]
        table.add_row(name, *cells, f"{_overhead(costs):.2f}")
    return table
