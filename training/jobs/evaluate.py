"""`sfumato evaluate MODEL --data ROOT --shots 1 8 32 -o OUT`: the published protocol, baselines in the same table."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

import torch
import tyro

from pipelines import storage
from pipelines.command import Artefact, Outcome, progress
from pipelines.landmarks import create_detector
from pipelines.shards import ShardDataset
from training import run_record
from training.checkpoint import BaseModel
from training.evaluation import page, report
from training.evaluation.contestants import OURS, STILL, all_methods, load_models
from training.evaluation.evaluate import Bench, evaluate_pair, evaluate_video, kept
from training.evaluation.frechet import feature_network, frechet_distance
from training.evaluation.judge import Judge
from training.evaluation.lpips import load_lpips
from training.evaluation.measures import DRIVING, RECONSTRUCTION
from training.evaluation.methods import TRUE_FRAME, form
from training.evaluation.protocol import (
    Pair,
    ProtocolConfig,
    Selection,
    choose_frames,
    choose_pairs,
    choose_videos,
    digest,
    part_name,
)
from training.evaluation.recogniser import Recogniser
from training.evaluation.report import Evaluation
from training.evaluation.results import VideoResult, make_tables
from training.finetune import FineTuneConfig
from training.sources import check_fits

_PARTS = "parts"


@dataclass(frozen=True)
class Options:
    """Measure a base model beside its baselines on people it was not trained on."""

    model: tyro.conf.Positional[str]
    """Base model: the folder or URL that `sfumato meta-train` wrote."""
    data: str
    """Data set made by `sfumato preprocess`: a path or URL."""
    out: Annotated[str, tyro.conf.arg(aliases=["-o"])]
    """Where the report goes: a folder or URL. The same command goes on where it was cut short."""
    shots: tuple[int, ...] = (1, 8, 32)
    """T: how many frames of the person a method is given."""
    split: Literal["test", "val", "train"] = "test"
    """`train` measures hold-out frames of videos that the model was trained on: whether it learns at all."""
    videos: int = 50
    """Videos at most."""
    frames: int = 32
    """Hold-out frames of a video at most; a T that leaves fewer than 8 is not measured on that video."""
    cross: int = 0
    """Portraits driven by the frames of somebody else, so many pairs."""
    also: tuple[str, ...] = ()
    """Further base models for the same tables: NAME=PATH, such as published=runs/published."""
    fine_tune: bool = False
    """Fine-tune each model on the shots as well, in rows of its own."""
    num_steps: int | None = None
    """Updates of fine-tuning; by default its own stop rule."""
    fid_weights: str | None = None
    """FID's Inception weights (pt_inception-2015-12-05, .pth or .safetensors): path or URL. Without them the Fréchet
    distance is that of VGG16 features."""
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

    def protocol(self) -> ProtocolConfig:
        """Raises ValueError for numbers out of range."""
        shots = tuple(sorted(set(self.shots)))
        return ProtocolConfig(self.split, self.videos, self.frames, shots, self.cross, self.seed)


def run(options: Options) -> Outcome:
    """Measure, and write the report."""
    started = time.monotonic()
    config, device = options.protocol(), _device(options.device)
    models = load_models(options.model, options.also)
    dataset = _open_data(options, models)
    videos = choose_videos(dataset.videos(config.split), config.num_videos, config.seed)
    if not videos:
        raise ValueError(f"{options.data} has no videos in the split {config.split}; choose another --split")
    selections = [selection for video in videos if (selection := choose_frames(video, config)) is not None]
    if not selections:
        needed = config.shots[0] + config.fewest_held_out
        raise ValueError(
            f"none of the {len(videos)} videos of the split {config.split} of {options.data} has the {needed} frames "
            f"that T = {config.shots[0]} and {config.fewest_held_out} hold-out frames take"
        )
    pairs = choose_pairs([selection.video for selection in selections], config)
    bench = _bench(options, models, dataset, config, device)
    parts = storage.join(options.out, _PARTS, _digest(options, models, bench))
    results, driven = _measure(bench, selections, pairs, parts)
    skipped = {
        shots: len(videos) - sum(shots <= len(selection.shots) for selection in selections) for shots in config.shots
    }
    evaluation = _evaluation(options, models, bench, results, driven, skipped)
    made, notes = _write(options, evaluation)
    if len(pairs) < config.num_pairs:
        notes.append(f"{len(pairs)} of {config.num_pairs} pairs: each takes a video and another person's")
    counts = {"videos": len(results), "frames": sum(result.num_frames for result in results), "pairs": len(driven)}
    return Outcome(tuple(made), counts, time.monotonic() - started, notes=tuple(notes))


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
    return dataset


def _bench(
    options: Options,
    models: Mapping[str, BaseModel],
    dataset: ShardDataset,
    config: ProtocolConfig,
    device: torch.device,
) -> Bench:
    model = models[OURS].config.model
    tuning = FineTuneConfig(options.num_steps, options.seed) if options.fine_tune else None
    methods = all_methods(models, tuning, device)
    judge = Judge(
        create_detector(model.detector, device=device.type),
        Recogniser(),
        load_lpips(options.lpips),
        feature_network(options.fid_weights, device),
        device,
    )
    driven = [method for method in methods if method.name not in STILL]
    return Bench(dataset, model.image_size, methods, driven, judge, config)


def _digest(options: Options, models: Mapping[str, BaseModel], bench: Bench) -> str:
    """Of all that a video's result depends on."""
    network = bench.judge.feature_network
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
    )


def _measure(
    bench: Bench, selections: Sequence[Selection], pairs: Sequence[Pair], parts: str
) -> tuple[list[VideoResult], list[VideoResult]]:
    results, driven = [], []
    with progress() as bar:
        task = bar.add_task("evaluate", total=len(selections) + len(pairs))
        for selection in selections:
            bar.update(task, description=f"evaluate  {selection.video.video_id}")
            url = storage.join(parts, f"{part_name(selection.video.video_id)}.npz")
            results.append(kept(url, partial(evaluate_video, bench, selection)))
            bar.advance(task)
        for pair in pairs:
            bar.update(task, description=f"evaluate  {pair.portrait_video.video_id} driven")
            names = f"{pair.portrait_video.video_id} < {pair.driver_video.video_id}"
            driven.append(kept(storage.join(parts, f"{part_name(names)}.npz"), partial(evaluate_pair, bench, pair)))
            bar.advance(task)
    return results, driven


def _evaluation(
    options: Options,
    models: Mapping[str, BaseModel],
    bench: Bench,
    results: Sequence[VideoResult],
    driven: Sequence[VideoResult],
    skipped: Mapping[int, int],
) -> Evaluation:
    network, driven_tables = bench.judge.feature_network, make_tables(driven, [metric.key for metric in DRIVING])
    angles = [f"head_motion_{angle}" for angle in ("yaw", "pitch", "roll")]
    return Evaluation(
        model=options.model,
        model_form=form(models[OURS]),
        also={
            name: f"{word.partition('=')[2]} ({form(models[name])})"
            for word in options.also
            if (name := word.partition("=")[0])
        },
        dataset=options.data,
        dataset_digest=bench.dataset.manifest.digest,
        image_size=bench.size,
        detector=bench.judge.detector.name,
        recogniser=bench.judge.recogniser.name,
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
    )


def _write(options: Options, evaluation: Evaluation) -> tuple[list[Artefact], list[str]]:
    """The three files, and what goes to MLflow; the page last, as it shows that all is there."""
    texts = {
        "report.json": report.to_json(evaluation),
        "report.md": report.to_markdown(evaluation),
        "report.html": page.render(evaluation),
    }
    for name, text in texts.items():
        storage.write_bytes(storage.join(options.out, name), text.encode())
    made = [Artefact(name, storage.join(options.out, name)) for name in texts]
    notes = [
        f"T = {shots}: {number} videos have too few frames" for shots, number in evaluation.skipped.items() if number
    ]
    if options.mlflow is not None:
        from training.tracking import log_evaluation  # MLflow takes seconds to import

        target = run_record.target_of(options.mlflow, None, options.experiment, "evaluation")
        run_id = log_evaluation(
            target.uri,
            run_of(options.model),
            target.experiment,
            artifact_root=target.artifact_root,
            metrics=report.flat(evaluation),
            texts=texts,
        )
        made.append(Artefact("MLflow run", f"{options.mlflow} {run_id}"))
    return made, notes


def run_of(model: str) -> str | None:
    """The MLflow run that trained a bundle, as its folder says; None where it does not."""
    url = storage.join(model, run_record.FILE)
    if not storage.exists(url):
        return None
    try:
        run_id = json.loads(storage.read_bytes(url))["mlflow_run"]
    except (ValueError, KeyError, TypeError):
        return None
    return run_id if isinstance(run_id, str) else None
