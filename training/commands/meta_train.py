"""`sfumato meta-train PRESET --data ROOT -o RUN`: train a base model from shards; the same command resumes a run.

With `--synthetic` instead of `--data`, synthetic people are rendered during training.
"""

import contextlib
import math
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Literal

from pipelines import storage
from pipelines.cli import Artefact, CommandResult, console, progress
from pipelines.metrics_endpoint import metrics_endpoint
from pipelines.storage import lease
from training.checkpoints.bundle import MANIFEST, TrainingProvenance, load_bundle, newest_intact
from training.checkpoints.model_card import Training
from training.checkpoints.model_registry import is_registered
from training.commands.meta_train_options import RENAMED_FLAGS, Options
from training.commands.meta_train_plan import plan
from training.config import TrainConfig
from training.episodes.source import Source, open_source
from training.losses.perceptual_files import PerceptualFiles
from training.meta_training.metrics.exported_metrics import TrainingMetrics
from training.meta_training.run_config import (
    initial_model,
    keep_initial_model,
    with_detector_of,
    with_initial_model,
    with_published_perceptual,
)
from training.meta_training.run_record import pending_records_url, read_record, send_pending, utc_now, write_record
from training.tracking.target import without_password

__all__ = ["RENAMED_FLAGS", "Options", "run"]

_LEASE = lease.Terms("lease.json", "is being trained", "choose another -o")


def run(options: Options) -> CommandResult:
    """Start a run, resume it, or report that it is complete."""
    started = time.monotonic()
    config, files = options.config(), PerceptualFiles.named(options.vgg19, options.vggface)
    out, root = storage.absolute(options.out), ""
    if options.data is not None:
        root = storage.absolute(options.data)
        if not storage.exists(root):
            raise FileNotFoundError(f"{options.data} does not exist")
        config = with_detector_of(config, root)
    if files is not None:
        config = with_published_perceptual(config, files)
    start_from = None
    if options.init_from is not None:
        start_from = initial_model(options.init_from, out, options.mlflow)
        name = options.init_from if is_registered(options.init_from) else None
        config = with_initial_model(config, start_from, name)
    if options.plan:
        return plan(options, config, _num_rows(root, config))
    source = open_source(root, config)
    for note in source.notes(config):
        console().print(f"sfumato meta-train: {note}", markup=False)
    record = read_record(out, config)
    if storage.exists(storage.join(out, MANIFEST)):
        done = load_bundle(out).origin.step
        if done >= config.num_steps:
            kept = send_pending(options.target(record), out)
            notes = (*source.notes(config), "already trained: nothing to do", kept)
            return _outcome(options, done, source, started, *notes)
    metrics = TrainingMetrics(config.num_steps)
    with (
        metrics_endpoint(options.metrics_address, metrics.collect),
        lease.hold(out, _LEASE),
        _terminated_as_interrupted(),
    ):
        return _train(options, config, source, out, files, start_from, started, metrics)


def _num_rows(root: str, config: TrainConfig) -> int | None:
    """Return the number of identity rows; None if no data is named."""
    if config.online is not None:
        return config.online.num_people
    return len(open_source(root, config).video_ids) if root else None


def _train(
    options: Options,
    config: TrainConfig,
    source: Source,
    out: str,
    files: PerceptualFiles | None,
    start_from: str | None,
    started: float,
    metrics: TrainingMetrics,
) -> CommandResult:
    # Importing Ray takes seconds: import it only after the options are validated.
    from training.meta_training.publish import publish
    from training.meta_training.ray_train import checkpoints_of, fit
    from training.tracking.tracker import start_run

    record = read_record(out, config)
    if options.init_from is not None and start_from is not None:
        start_from = keep_initial_model(options.init_from, start_from, out)
    cluster = options.cluster(config.episodes_per_step)
    _, damage = newest_intact(checkpoints_of(out))
    notes = [f"{problem}; resumed from the checkpoint before" for problem in damage]
    training = Training(options.preset, options.command_line(), version("sfumato"))
    facts = {"command": training.command, "code_version": training.code_version, "preset": options.preset}
    tracker = start_run(
        options.target(record),
        pending_records_url(out),
        config=config,
        dataset=source.name,
        dataset_digest=source.facts.digest,
        facts=facts,
    )
    starts = (*record.get("starts", ()), utc_now())
    write_record(out, tracker, starts, config)
    status: Literal["FINISHED", "FAILED", "KILLED"] = "FAILED"
    latest: dict[str, float] = {}
    kept = ""
    try:
        with progress() as bar:
            task = bar.add_task("starting workers", total=config.num_steps)

            def on_progress(step: int, values: Mapping[str, float]) -> None:
                if step:
                    if not latest:  # a resumed run starts at its last step
                        bar.reset(task, total=config.num_steps, completed=step)
                    latest.update(values)
                    metrics.update(step, values)
                    loss = f"loss {values.get('generator', math.nan):.2f}  {values['images_per_second']:.1f} images/s"
                    bar.update(task, completed=step, description=f"meta-train  {loss}")

            checkpoint = fit(
                config,
                source.name,
                out,
                cluster,
                tracker,
                on_progress,
                shard_cache=options.absolute_shard_cache,
                perceptual_files=files,
                start_from=start_from,
            )
        training = replace(training, starts=starts, finished=utc_now(), metrics=latest, hardware=tracker.tags)
        training = replace(training, mlflow_run=tracker.run_id)
        registered = publish(checkpoint, out, source.facts, training, tracker)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        if (kept := tracker.finish(status)) and status != "FINISHED":
            console().print(f"sfumato meta-train: {kept}", markup=False)
        write_record(out, tracker, starts, config)
    notes += _stability_notes(load_bundle(out).origin)
    return _outcome(options, config.num_steps, source, started, *notes, kept or f"registered as {registered}")


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Handle SIGTERM, which a cluster sends before it reclaims a machine, like Ctrl-C: write a checkpoint and stop."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stability_notes(origin: TrainingProvenance) -> list[str]:
    notes = []
    if origin.skipped_steps:
        notes.append(f"{origin.skipped_steps} steps were skipped: their gradients were not finite")
    if origin.rollbacks:
        notes.append(f"training went back to its last checkpoint {origin.rollbacks} times, because they stayed so")
    return notes


def _outcome(options: Options, steps: int, source: Source, started: float, *notes: str) -> CommandResult:
    return CommandResult(
        made=(Artefact("base model", options.out), Artefact("MLflow", without_password(options.mlflow))),
        counts={"steps": steps, **source.counts},
        seconds=time.monotonic() - started,
        notes=tuple(note for note in notes if note),
    )
