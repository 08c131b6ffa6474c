"""`sfumato evaluate MODEL --data ROOT --shots 1 8 32 -o OUT`: run the published protocol, with baselines."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

import torch
import tyro

from pipelines import storage
from pipelines.cli import CommandResult, progress
from pipelines.dataset.reader import ShardDataset, SourceVideo
from pipelines.faces.detectors import create_detector
from pipelines.faces.identity.sface import FaceRecogniser
from training.avatars.finetune import FineTuneConfig
from training.checkpoints.bundle import BaseModel
from training.device import choose_device
from training.episodes.source import check_fits
from training.evaluation.cross_reenactment import choose_cross_pairs, evaluate_cross_pair, list_motions
from training.evaluation.evaluate import EvaluationContext, evaluate_pair, evaluate_video, load_or_compute
from training.evaluation.method_list import OURS, STILL, all_methods, load_models
from training.evaluation.methods import TRUE_FRAME, form
from training.evaluation.metrics.frame_metrics import DRIVING, RECONSTRUCTION
from training.evaluation.metrics.frechet import feature_network, frechet_distance
from training.evaluation.metrics.lpips import load_lpips
from training.evaluation.metrics.metric_networks import MetricNetworks
from training.evaluation.protocol import (
    ProtocolConfig,
    choose_frames,
    choose_pairs,
    choose_videos,
    digest,
    part_name,
)
from training.evaluation.report import Evaluation
from training.evaluation.results import VideoResult, make_tables
from training.evaluation.write import write_report

_PARTS = "parts"


RENAMED_FLAGS = {"--cross": "--num-cross-pairs", "--also": "--compare"}
"""Old spellings, accepted until 0.3."""


@dataclass(frozen=True)
class Options:
    """Evaluate a base model and baselines on people that it was not trained on."""

    model: tyro.conf.Positional[str]
    """Base model: folder or URL that `sfumato meta-train` wrote, models:/NAME@ALIAS in the MLflow registry, or
    `shipped` for the bundled one."""
    data: str
    """Data set made by `sfumato preprocess`: a path or URL."""
    out: Annotated[str, tyro.conf.arg(aliases=["-o"])]
    """Folder or URL to write the report to. The same command resumes an interrupted evaluation."""
    shots: tuple[int, ...] = (1, 8, 32)
    """T: numbers of frames of the person that methods get."""
    split: Literal["test", "val", "train", "all"] = "test"
    """Split to measure. `train` uses hold-out frames of training videos, to see whether the model learns at all. `all`
    is for data sets that the model was not trained on."""
    videos: int = 50
    """Maximum number of videos."""
    frames: int = 32
    """Maximum number of hold-out frames per video; a video is skipped for a T that leaves fewer than 8."""
    num_cross_pairs: int = 0
    """Number of pairs in which a portrait is driven by the frames of another person."""
    paired: bool = False
    """For data sets that show the same motions on every person: drive one person with another and compare with the
    truth. Uses up to --videos true clips, and replaces the tables of single videos."""
    compare: tuple[str, ...] = ()
    """Further base models for the same tables: NAME=PATH, such as published=runs/published."""
    fine_tune: bool = False
    """Also fine-tune each model on the shots, in separate rows."""
    as_rendered: bool = False
    """Also measure the frames that `animate` draws from the same shots, in separate rows."""
    num_steps: int | None = None
    """Number of fine-tuning updates; default: its own stopping rule."""
    fid_weights: str | None = None
    """Inception weights of the FID (pt_inception-2015-12-05, .pth or .safetensors): path or URL. Without them the
    Fréchet distance is that of VGG16 features."""
    size: int | None = None
    """Height and width at which frames are generated and measured, pixels; default: the model's. At a larger size
    output is upsampled as in `animate`, so that models of different sizes can be compared."""
    lpips: Literal["alexnet", "vgg16"] = "alexnet"
    """Network of LPIPS."""
    device: str = "auto"
    """Device of the networks: auto (a CUDA device if there is one), cpu, cuda or cuda:N."""
    seed: int = 0
    """Random seed of the choice of videos and frames."""
    mlflow: str | None = None
    """MLflow tracking URI to log to; default: no logging."""
    experiment: str = "sfumato"
    """MLflow experiment to log to if the model's own run is not on that server."""

    def __post_init__(self) -> None:
        if self.paired and self.num_cross_pairs:
            raise ValueError("--num-cross-pairs drives portraits without a truth, --paired with one: give one of them")

    def protocol(self) -> ProtocolConfig:
        """Return the protocol. Raises ValueError for numbers out of range."""
        shots = tuple(sorted(set(self.shots)))
        return ProtocolConfig(self.split, self.videos, self.frames, shots, self.num_cross_pairs, self.seed)


@dataclass(frozen=True)
class _Plan:
    """What to measure: functions of the context by name."""

    videos: Mapping[str, Callable[[EvaluationContext], VideoResult]]
    pairs: Mapping[str, Callable[[EvaluationContext], VideoResult]]
    """Portraits driven by another person, without a truth."""
    skipped: Mapping[int, int]
    """For each T, the number of videos with too few frames."""


def run(options: Options) -> CommandResult:
    """Run the evaluation and write the report."""
    started = time.monotonic()
    config, device = options.protocol(), choose_device(options.device)
    models = load_models(options.model, options.compare, same_size=options.size is None)
    dataset = _open_data(options, models)
    videos = [video for split in config.splits for video in dataset.videos(split)]
    if not videos:
        raise ValueError(f"{options.data} has no videos in the split {config.split}; choose another --split")
    plan = (_plan_paired if options.paired else _plan_videos)(config, dataset, videos)
    context = _context(options, models, dataset, config, device)
    parts = storage.join(options.out, _PARTS, _digest(options, models, context))
    results, driven = _measure(plan.videos, context, parts), _measure(plan.pairs, context, parts)
    evaluation = _evaluation(options, models, context, results, driven, plan.skipped)
    made, notes = write_report(evaluation, options.out, options.model, options.mlflow, options.experiment)
    if len(driven) < config.num_pairs:
        notes.append(f"{len(driven)} of {config.num_pairs} pairs: each takes a video and another person's")
    frames = {"frames": sum(result.num_frames for result in results)}
    counts = {"pairs": len(results), **frames} if options.paired else {"videos": len(results), **frames}
    counts.setdefault("pairs", len(driven))
    return CommandResult(tuple(made), counts, time.monotonic() - started, notes=tuple(notes))


def _plan_videos(config: ProtocolConfig, dataset: ShardDataset, videos: Sequence[SourceVideo]) -> _Plan:
    chosen = choose_videos(videos, config.num_videos, config.seed)
    selections = [selection for video in chosen if (selection := choose_frames(video, config)) is not None]
    if not selections:
        needed = config.shots[0] + config.fewest_held_out
        raise ValueError(
            f"none of the {len(chosen)} videos of the split {config.split} of {dataset.root} has the {needed} frames "
            f"that T = {config.shots[0]} and {config.fewest_held_out} hold-out frames take"
        )
    pairs = choose_pairs([selection.video for selection in selections], config)
    return _Plan(
        {each.video.video_id: partial(evaluate_video, selection=each) for each in selections},
        {each.name: partial(evaluate_pair, pair=each) for each in pairs},
        {shots: len(chosen) - sum(shots <= len(each.shots) for each in selections) for shots in config.shots},
    )


def _plan_paired(config: ProtocolConfig, dataset: ShardDataset, videos: Sequence[SourceVideo]) -> _Plan:
    affines = {key: affine for split in config.splits for key, affine in dataset.crop_affines(split).items()}
    cross_pairs = choose_cross_pairs(list_motions(videos, affines), config)
    if not cross_pairs:
        people = len({video.identity for video in videos})
        raise ValueError(
            f"{dataset.root} has no pairs: among the {people} people of the split {config.split} no two do the same "
            "two motions with frames of equal numbers"
        )
    return _Plan(
        {each.name: partial(evaluate_cross_pair, cross_pair=each) for each in cross_pairs},
        {},
        {shots: sum(shots > each.num_shots for each in cross_pairs) for shots in config.shots},
    )


def _open_data(options: Options, models: Mapping[str, BaseModel]) -> ShardDataset:
    if not storage.exists(options.data):
        raise FileNotFoundError(f"{options.data} does not exist")
    dataset = ShardDataset(options.data)
    check_fits(dataset, models[OURS].config.model)
    stored, least = dataset.manifest.size, max(model.config.model.image_size for model in models.values())
    if options.size is not None and not least <= options.size <= stored:
        raise ValueError(
            f"--size has to be {least} to {stored}, the size of the crops of {options.data}, not {options.size}"
        )
    return dataset


def _context(
    options: Options,
    models: Mapping[str, BaseModel],
    dataset: ShardDataset,
    config: ProtocolConfig,
    device: torch.device,
) -> EvaluationContext:
    model = models[OURS].config.model
    tuning = FineTuneConfig(options.num_steps, options.seed) if options.fine_tune else None
    methods = all_methods(models, tuning, device, as_rendered=options.as_rendered)
    networks = MetricNetworks(
        create_detector(model.detector, device=device.type),
        FaceRecogniser(),
        load_lpips(options.lpips),
        feature_network(options.fid_weights, device),
        device,
    )
    driven = [method for method in methods if method.name not in STILL]
    return EvaluationContext(dataset, options.size or model.image_size, methods, driven, networks, config)


def _digest(options: Options, models: Mapping[str, BaseModel], context: EvaluationContext) -> str:
    """Return a digest of all that a video's result depends on."""
    network = context.metric_networks.feature_network
    tuned = (options.fine_tune, options.num_steps)
    versions = sorted((name, model.version) for name, model in models.items())
    return digest(
        replace(context.config, num_videos=1, num_pairs=0),
        context.dataset.manifest.digest,
        versions,
        tuned,
        options.lpips,
        network.name,
        network.weights_sha256,
        *(["paired"] if options.paired else []),
        *(["as rendered"] if options.as_rendered else []),
        *([context.size] if options.size else []),
    )


def _measure(
    work: Mapping[str, Callable[[EvaluationContext], VideoResult]], context: EvaluationContext, parts: str
) -> list[VideoResult]:
    """Return the results, loading those that an interrupted evaluation has stored."""
    results = []
    with progress() as bar:
        task = bar.add_task("evaluate", total=len(work))
        for name, make in work.items():
            bar.update(task, description=f"evaluate  {name}")
            results.append(load_or_compute(storage.join(parts, f"{part_name(name)}.npz"), partial(make, context)))
            bar.advance(task)
    return results


def _evaluation(
    options: Options,
    models: Mapping[str, BaseModel],
    context: EvaluationContext,
    results: Sequence[VideoResult],
    driven: Sequence[VideoResult],
    skipped: Mapping[int, int],
) -> Evaluation:
    network, driven_tables = (
        context.metric_networks.feature_network,
        make_tables(driven, [metric.key for metric in DRIVING]),
    )
    angles = [f"head_motion_{angle}" for angle in ("yaw", "pitch", "roll")]
    return Evaluation(
        model=options.model,
        model_form=form(models[OURS]),
        also={
            name: f"{argument.partition('=')[2]} ({form(models[name])})"
            for argument in options.compare
            if (name := argument.partition("=")[0])
        },
        dataset=options.data,
        dataset_digest=context.dataset.manifest.digest,
        image_size=context.size,
        detector=context.metric_networks.detector.name,
        recogniser=context.metric_networks.recogniser.name,
        lpips_network=options.lpips,
        frechet_name=network.name,
        fid_weights_sha256=network.weights_sha256,
        protocol=context.config,
        skipped={str(shots): number for shots, number in skipped.items()},
        videos=tuple(results),
        pairs=tuple(driven),
        tables=make_tables(
            results, [*(metric.key for metric in RECONSTRUCTION), *angles], truth=TRUE_FRAME, distance=frechet_distance
        ),
        driven=driven_tables[0] if driven_tables else None,
        paired=options.paired,
    )
