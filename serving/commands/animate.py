"""`sfumato animate`: sources and drivers -> videos, here or on many workers. Bad inputs are reported and skipped."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

import tyro
from rich.progress import Progress

from pipelines import cli, storage
from pipelines.argument_parser import UsageError
from pipelines.faces.identity.face_choice import FORMS, parse_face_choice
from pipelines.metrics_endpoint import metrics_endpoint
from pipelines.provenance.signing_key import SigningFiles, SigningKey, load_signing_key
from serving.batch.avatar_maker import AvatarOptions, ModelAvatarMaker
from serving.batch.batch_run import BatchRun
from serving.batch.inputs import Problem, find_drivers, find_sources
from serving.batch.items import FILM_PARTS, Item, every_pair
from serving.batch.pairs import PairsError, read_pairs
from serving.batch.pool import Pool, RayOptions, ThisProcess
from serving.batch.previews import write_previews
from serving.batch.results.batch_metrics import BatchMetrics
from serving.batch.results.contact_page import write_page
from serving.batch.results.preview_page import PairPreview, preview_result
from serving.batch.results.report import FOLDER, Report
from serving.batch.results.summary import result, table
from serving.batch.worker import MakeMaker, Worker
from serving.batch.workspace import Workspace, open_workspace
from serving.render_options import render_options
from training.checkpoints.model_registry import is_registered, pinned
from training.checkpoints.shipped import SHIPPED
from training.losses.perceptual_files import PerceptualFiles

_PathLists = Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction]
"""One tuple for each time that the flag is given: without UseAppendAction, tyro keeps the last one only."""


@dataclass(frozen=True)
class Options:
    """Animate every source with every driver, or the pairs of a file. A second run makes only the videos that are
    missing or have changed."""

    source: Annotated[_PathLists, tyro.conf.arg(aliases=["-s"], metavar="PATH ...")]
    """Faces to animate: avatar folders, pictures, folders of either, films by name, "patterns*" (required without
    --pairs). A film keeps its frames, rate and own motion; parts of its face follow the driver, the lips by default."""
    driver: Annotated[_PathLists, tyro.conf.arg(aliases=["-d"], metavar="PATH ...")]
    """What gives the motion: videos, folders of them, "patterns*"; files of motion: .parquet (sfumato motion), .csv
    (ARKit recording or key frames), .json (key frames); English speech: .wav, .mp3, .m4a, .flac, .ogg (needs the
    extra "speech") (required without --pairs)"""
    out: Annotated[str, tyro.conf.arg(aliases=["-o"])]
    """Folder of the results (path or URL): SOURCE--DRIVER.mp4, .side-by-side.mp4 and .json, SOURCE.mosaic.mp4,
    index.html, report/."""
    pairs: str | None = None
    """CSV or JSON Lines file (path or URL) with the columns source and driver, one video a row, instead of -s and -d;
    optional columns: name, expression, head_motion, gaze, smoothing, parts, motion, frame, max_size, fps, face,
    driver_face, on_missing, sound."""
    workers: int = 1
    """Number of worker processes; 1 without --ray-address works in this process."""
    ray_address: str | None = None
    """Address of a running Ray cluster whose machines do the work ("auto" for the one on this machine)."""
    cpus_per_worker: float = 1.0
    """CPUs that Ray reserves for each worker; a fraction is allowed."""
    gpus_per_worker: float = 0.0
    """GPUs that Ray reserves for each worker; with a fraction such as 0.25, workers share one."""
    device: str = "auto"
    """Device of the networks: auto (a GPU if a worker has one), cpu, cuda or cuda:N."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Data type of the networks' activations: bfloat16 is faster where the device computes in it, and differs by a few
    levels of 255."""
    model: str | None = None
    """Base model for sources that are pictures: a bundle's path or URL, or models:/sfumato-base@champion; default: the
    bundled one."""
    num_steps: int | None = None
    """Fine-tuning steps for pictures and films; 0 for feed-forward only; default: the stop rule decides, and for films
    0."""
    face: Annotated[str | None, tyro.conf.arg(metavar=FORMS)] = None
    """The face in a picture: its number, 0 for the largest, or a point on it or a box around it in pixels; default: the
    largest."""
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
    parts: str | None = None
    """Parts of the driver's motion to transfer: any of lips (with jaw and nose), eyes (lids), pose, brows and gaze,
    with commas between; the source keeps its own of the others. Default: all; of a film, the lips, which dubs it."""
    motion: Literal["relative", "absolute"] = "relative"
    """The driver's expression relative to its own most relaxed frame, or, for a driver who never relaxes, relative to a
    neutral face: absolute. The pose is relative to that frame in either case."""
    driver_face: Annotated[str, tyro.conf.arg(metavar=FORMS)] = "0"
    """The person in the driving video, likewise, in the frame where faces first appear. The person is followed by
    identity, also after absences and cuts."""
    on_missing: Literal["fill", "hold", "rest", "cut", "fail"] = "fill"
    """While the driver's face is missing: fill interpolates the motion, hold keeps the last one, rest eases to the
    portrait's own pose, cut leaves out those frames and their sound, fail makes no video."""
    frame: Literal["full", "crop"] = "full"
    """Render the whole picture with the animated face in it, or only the crop around the face."""
    max_size: int = 1280
    """Maximum length of the videos' longer side, pixels."""
    sound: Literal["auto", "driver", "source", "none"] = "auto"
    """Whose sound the video has: auto takes the driver's, but a film's own unless the lips follow the driver and it
    has sound. The driver's sound starts with the video and is not repeated."""
    fps: str = "keep"
    """When frames are shown: keep, when the driver, or a film as the source, shows them (one with pauses gives a video
    with a variable frame rate), or a number such as 25 or 29.97, at that constant rate, with frames repeated or left
    out."""
    watermark: Literal["luma", "none"] = "luma"
    """The mark in the frames, which survives other encoders and tells `sfumato verify` who made the videos."""
    label: str = ""
    """A line in the lower left corner of the videos, such as "AI-generated"; default: none."""
    preview: bool = False
    """Make no videos, but a picture of each pair in OUT/previews, with the face, the driver's extreme frames as they
    will look, and warnings; index.html there lists them. Takes two seconds a pair."""
    metrics_address: str | None = None
    """Where this command answers Prometheus while it runs: a port of loopback, or HOST:PORT; default: nowhere."""
    side_by_side: bool = True
    """Also write a video of portrait, driver and result side by side."""
    mosaic: bool = True
    """Also write, for a source with several drivers, one video with its results in a row."""

    def __post_init__(self) -> None:
        if self.preview and _uses_ray(self):
            raise UsageError("--preview works in this process: give it without --workers and --ray-address")
        if self.pairs is not None:
            if _flat(self.source) or _flat(self.driver):
                raise UsageError("--pairs names sources and drivers itself: give it without --source and --driver")
            return
        for name in ("source", "driver"):  # tyro takes a flag that can be repeated for optional
            if not _flat(getattr(self, name)):
                raise FileNotFoundError(f"no {name} given: --{name} is required")  # exit code 2


def run(options: Options) -> cli.CommandResult:
    """Make every video, then a table, a report and a contact page of what became of each.

    Raises:
        FileNotFoundError: a source, driver or model does not exist.
        ValueError: the model is not a base model, or an option is out of range.
        UsageError: the pairs file is wrong.
        ValueError: key or certificate for the credentials cannot be used.
    """
    started = time.perf_counter()
    key = load_signing_key()  # before the work that it signs
    items, problems, notes = _items(options)
    make_maker = partial(ModelAvatarMaker, _avatar_options(options))
    _check_workers(options)
    if options.preview:
        return _previews(options, items, problems, notes, started, key)
    out = storage.absolute(options.out) if _uses_ray(options) else options.out
    report = Report(out)
    metrics = BatchMetrics(report, len(items) + len(problems))
    with (
        metrics_endpoint(options.metrics_address, metrics.collect),
        open_workspace(out) as workspace,
        cli.progress() as progress,
    ):
        batch = BatchRun(
            out, make_maker(workspace), report, progress, side_by_side=options.side_by_side, mosaic=options.mosaic
        )
        try:
            for problem in problems:
                batch.refuse(problem)
            batch.animate(items, lambda num: _open_pool(options, num, make_maker, workspace, progress, report))
        finally:
            report.flush()
    page = write_page(out, report.rows)
    cli.console().print(table(report.rows))
    extra = (cli.Artefact("page", page), cli.Artefact("report", storage.join(out, FOLDER)))
    signed = key.notes if any(row.status == "done" for row in report.rows) else ()
    return result(
        out, report.rows, batch.sidecars, extra, (*signed, *notes, *batch.notes), time.perf_counter() - started
    )


def _previews(
    options: Options,
    items: Sequence[Item],
    problems: Sequence[Problem],
    notes: Sequence[str],
    started: float,
    key: SigningKey,
) -> cli.CommandResult:
    """Make a picture of each pair; not ok when there is none."""
    with open_workspace(options.out) as workspace, cli.progress() as progress:
        maker = ModelAvatarMaker(_avatar_options(options), workspace)
        previews = write_previews(items, maker, workspace, progress, key)
    failed = [PairPreview(problem.url, reason=problem.reason) for problem in problems]
    signed = key.notes if any(preview.reason is None for preview in previews) else ()
    return preview_result(options.out, [*failed, *previews], (*signed, *notes), time.perf_counter() - started)


def _flat(lists: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """Join the paths of `-s a b -s c`."""
    return tuple(path for paths in lists for path in paths)


def _items(options: Options) -> tuple[tuple[Item, ...], tuple[Problem, ...], tuple[str, ...]]:
    """Return the videos to make, the inputs that cannot be read, and notes about what folders hold besides."""
    rendering = render_options(options)
    film_parts = FILM_PARTS if options.parts is None else rendering.motion.parts
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    face = None if options.face is None else parse_face_choice(options.face)
    if options.pairs is not None:
        try:
            items = read_pairs(options.pairs, rendering, face, film_parts)
        except PairsError as error:
            raise UsageError(str(error)) from error
    else:
        sources, drivers = find_sources(_flat(options.source)), find_drivers(_flat(options.driver))
        items = every_pair(sources.inputs, drivers.inputs, rendering, face, film_parts)
        problems = (*sources.problems, *drivers.problems)
        notes = tuple(dict.fromkeys((*sources.notes, *drivers.notes)))
    return (tuple(map(_with_absolute_paths, items)) if _uses_ray(options) else items), problems, notes


def _with_absolute_paths(item: Item) -> Item:
    """Workers have other working folders."""
    source = replace(item.source.input, url=storage.absolute(item.source.input.url))
    driver = replace(item.driver, url=storage.absolute(item.driver.url))
    return replace(item, source=replace(item.source, input=source), driver=driver)


def _avatar_options(options: Options) -> AvatarOptions:
    # The bundled model's name, not its path: other machines may have it elsewhere. Of an alias, the version now.
    model = "shipped" if options.model in (None, SHIPPED) else pinned(str(options.model))
    by_name = model == "shipped" or is_registered(model) or not _uses_ray(options)
    files = PerceptualFiles.named(options.vgg19, options.vggface)
    return AvatarOptions(model if by_name else storage.absolute(model), options.num_steps, files, options.device)


def _uses_ray(options: Options) -> bool:
    return options.workers != 1 or options.ray_address is not None


def _check_workers(options: Options) -> None:
    """Refuse wrong numbers, and a device that this process does not have; workers check theirs when they start.

    Raises:
        ValueError: a value is out of range, or there is no such device.
    """
    if _uses_ray(options):
        RayOptions(options.workers, options.ray_address, options.cpus_per_worker, options.gpus_per_worker)
    if not _uses_ray(options) or not options.device.startswith("cuda"):
        from training.device import choose_device

        choose_device(options.device)


def _open_pool(
    options: Options, num_tasks: int, make_maker: MakeMaker, workspace: Workspace, progress: Progress, report: Report
) -> AbstractContextManager[Pool]:
    if not _uses_ray(options):
        return _this_process(options, make_maker, workspace, progress, report)
    from serving.batch.ray_pool import WorkerRecipe, open_ray_pool

    num_workers = min(options.workers, num_tasks)
    ray_options = RayOptions(num_workers, options.ray_address, options.cpus_per_worker, options.gpus_per_worker)
    signing = SigningFiles.from_environment().absolute()
    recipe = WorkerRecipe(make_maker, workspace.out, options.side_by_side, signing, str(workspace.scratch))
    return open_ray_pool(ray_options, recipe, progress)


@contextmanager
def _this_process(
    options: Options, make_maker: MakeMaker, workspace: Workspace, progress: Progress, report: Report
) -> Iterator[Pool]:
    worker = Worker(make_maker, workspace, side_by_side=options.side_by_side)
    yield ThisProcess(worker, progress, report.flush_if_due)
