"""`sfumato evaluate MODEL --data ROOT --shots 1 8 32 -o OUT`: the published protocol, baselines in the same table."""

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
from training.avatars.finetune import FineTuneConfig
from training.checkpoints.bundle import BaseModel
from training.episodes.source import check_fits
from training.evaluation.cross_reenactment import choose_cross_pairs, evaluate_cross_pair, list_motions
from training.evaluation.evaluate import EvaluationContext, evaluate_pair, evaluate_video, load_or_compute
from training.evaluation.method_list import OURS, STILL, all_methods, load_models
from training.evaluation.methods import TRUE_FRAME, form
from training.evaluation.metrics.frame_metrics import DRIVING, RECONSTRUCTION
from training.evaluation.metrics.frechet import feature_network, frechet_distance
from training.evaluation.metrics.lpips import load_lpips
from training.evaluation.metrics.metric_networks import MetricNetworks
from training.evaluation.metrics.sface import FaceRecogniser
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
    """Measure a base model beside its baselines on people it was not trained on."""

    model: tyro.conf.Positional[str]
    """Base model: the folder or URL that `sfumato meta-train` wrote; `shipped` is the one that comes along."""
    data: str
    """Data set made by `sfumato preprocess`: a path or URL."""
    out: Annotated[str, tyro.conf.arg(aliases=["-o"])]
    """Where the report goes: a folder or URL. The same command goes on where it was cut short."""
    shots: tuple[int, ...] = (1, 8, 32)
    """T: how many frames of the person a method is given."""
    split: Literal["test", "val", "train", "all"] = "test"
    """`train` measures hold-out frames of videos that the model was trained on: whether it learns at all. `all` is for
    data sets that the model was not trained on."""
    videos: int = 50
    """Videos at most."""
    frames: int = 32
    """Hold-out frames of a video at most; a T that leaves fewer than 8 is not measured on that video."""
    num_cross_pairs: int = 0
    """Portraits driven by the frames of somebody else, so many pairs."""
    paired: bool = False
    """The data set shows the same motions on every person: measure driving one with another against the truth. Takes
    up to --videos true clips, and is made instead of the tables of single videos."""
    compare: tuple[str, ...] = ()
    """Further base models for the same tables: NAME=PATH, such as published=runs/published."""
    fine_tune: bool = False
    """Fine-tune each model on the shots as well, in rows of its own."""
    num_steps: int | None = None
    """Updates of fine-tuning; by default its own stop rule."""
    fid_weights: str | None = None
    """FID's Inception weights (pt_inception-2015-12-05, .pth or .safetensors): path or URL. Without them the Fréchet
    distance is that of VGG16 features."""
    size: int | None = None
    """Side of the frames that are drawn and measured, pixels: by default that of the model. At a larger one it is shown
    as `animate` shows it, a correction of the picture's own warp; models of other sizes can then be compared."""
    lpips: Literal["alexnet", "vgg16"] = "alexnet"
    """Network of LPIPS."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where networks run; auto takes a CUDA device where there is one."""
    seed: int = 0
    """Of the choice of videos and frames."""
    mlflow: str | None = None
    """MLflow tracking URI to log to; by default nothing is logged."""
    experiment: str = "sfumato"
    """MLflow experiment, where the model's own run is not there."""

    def __post_init__(self) -> None:
        if self.paired and self.num_cross_pairs:
            raise ValueError("--num-cross-pairs drives portraits without a truth, --paired with one: give one of them")

    def protocol(self) -> ProtocolConfig:
        """Raises ValueError for numbers out of range."""
        shots = tuple(sorted(set(self.shots)))
        return ProtocolConfig(self.split, self.videos, self.frames, shots, self.num_cross_pairs, self.seed)


@dataclass(frozen=True)
class _Plan:
    """What is to be measured, by name; each piece of work takes the bench."""

    videos: Mapping[str, Callable[[EvaluationContext], VideoResult]]
    pairs: Mapping[str, Callable[[EvaluationContext], VideoResult]]
    """Portraits driven without a truth."""
    skipped: Mapping[int, int]
    """For each T those with too few frames."""


def run(options: Options) -> CommandResult:
    """Measure, and write the report."""
    started = time.monotonic()
    config, device = options.protocol(), _device(options.device)
    models = load_models(options.model, options.compare, same_size=options.size is None)
    dataset = _open_data(options, models)
    videos = [video for split in config.splits for video in dataset.videos(split)]
    if not videos:
        raise ValueError(f"{options.data} has no videos in the split {config.split}; choose another --split")
    plan = (_plan_paired if options.paired else _plan_videos)(config, dataset, videos)
    bench = _bench(options, models, dataset, config, device)
    parts = storage.join(options.out, _PARTS, _digest(options, models, bench))
    results, driven = _measure(plan.videos, bench, parts), _measure(plan.pairs, bench, parts)
    evaluation = _evaluation(options, models, bench, results, driven, plan.skipped)
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
    crossings = choose_cross_pairs(list_motions(videos, affines), config)
    if not crossings:
        people = len({video.identity for video in videos})
        raise ValueError(
            f"{dataset.root} has no pairs: among the {people} people of the split {config.split} no two do the same "
            "two motions with frames of equal numbers"
        )
    return _Plan(
        {each.name: partial(evaluate_cross_pair, crossing=each) for each in crossings},
        {},
        {shots: sum(shots > each.num_shots for each in crossings) for shots in config.shots},
    )


def _device(name: str) -> torch.device:
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise ValueError("--device cuda: there is no CUDA device here")
    return torch.device("cuda" if has_cuda and name != "cpu" else "cpu")


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


def _bench(
    options: Options,
    models: Mapping[str, BaseModel],
    dataset: ShardDataset,
    config: ProtocolConfig,
    device: torch.device,
) -> EvaluationContext:
    model = models[OURS].config.model
    tuning = FineTuneConfig(options.num_steps, options.seed) if options.fine_tune else None
    methods = all_methods(models, tuning, device)
    judge = MetricNetworks(
        create_detector(model.detector, device=device.type),
        FaceRecogniser(),
        load_lpips(options.lpips),
        feature_network(options.fid_weights, device),
        device,
    )
    driven = [method for method in methods if method.name not in STILL]
    return EvaluationContext(dataset, options.size or model.image_size, methods, driven, judge, config)


def _digest(options: Options, models: Mapping[str, BaseModel], bench: EvaluationContext) -> str:
    """Of all that a video's result depends on."""
    network = bench.metric_networks.feature_network
    tuned = (options.fine_tune, options.num_steps)
    versions = sorted((name, model.version) for name, model in models.items())
    return digest(
        replace(bench.config, num_videos=1, num_pairs=0),
        bench.dataset.manifest.digest,
        versions,
        tuned,
        options.lpips,
        network.name,
        network.weights_sha256,
        *(["paired"] if options.paired else []),
        *([bench.size] if options.size else []),
    )


def _measure(
    work: Mapping[str, Callable[[EvaluationContext], VideoResult]], bench: EvaluationContext, parts: str
) -> list[VideoResult]:
    """The result of each piece of work, by its name: kept from an earlier start, or made now."""
    results = []
    with progress() as bar:
        task = bar.add_task("evaluate", total=len(work))
        for name, make in work.items():
            bar.update(task, description=f"evaluate  {name}")
            results.append(load_or_compute(storage.join(parts, f"{part_name(name)}.npz"), partial(make, bench)))
            bar.advance(task)
    return results


def _evaluation(
    options: Options,
    models: Mapping[str, BaseModel],
    bench: EvaluationContext,
    results: Sequence[VideoResult],
    driven: Sequence[VideoResult],
    skipped: Mapping[int, int],
) -> Evaluation:
    network, driven_tables = (
        bench.metric_networks.feature_network,
        make_tables(driven, [metric.key for metric in DRIVING]),
    )
    angles = [f"head_motion_{angle}" for angle in ("yaw", "pitch", "roll")]
    return Evaluation(
        model=options.model,
        model_form=form(models[OURS]),
        also={
            name: f"{word.partition('=')[2]} ({form(models[name])})"
            for word in options.compare
            if (name := word.partition("=")[0])
        },
        dataset=options.data,
        dataset_digest=bench.dataset.manifest.digest,
        image_size=bench.size,
        detector=bench.metric_networks.detector.name,
        recogniser=bench.metric_networks.recogniser.name,
        lpips_network=options.lpips,
        frechet_name=network.name,
        fid_weights_sha256=network.weights_sha256,
        protocol=bench.config,
        skipped={str(shots): number for shots, number in skipped.items()},
        videos=tuple(results),
        pairs=tuple(driven),
        tables=make_tables(
            results, [*(metric.key for metric in RECONSTRUCTION), *angles], truth=TRUE_FRAME, distance=frechet_distance
        ),
        driven=driven_tables[0] if driven_tables else None,
        paired=options.paired,
    )
