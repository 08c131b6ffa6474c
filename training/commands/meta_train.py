"""`sfumato meta-train PRESET --data ROOT -o RUN`: shards -> base model. Run again, it resumes.

With `--synthetic` in place of `--data`, people are drawn while training.
"""

import _thread
import contextlib
import math
import shlex
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from pipelines import storage
from pipelines.cli import Artefact, CommandResult, console, progress
from training.checkpoints.bundle import MANIFEST, TrainingProvenance, load_bundle, newest_whole
from training.checkpoints.model_card import Training
from training.checkpoints.shipped import named_or_shipped
from training.config import Augmentation, ExecutionConfig, OnlineMotion, ReadOrder, SyntheticConfig, TrainConfig
from training.episodes.source import Source, open_source
from training.losses.perceptual_files import PerceptualFiles
from training.meta_training import run_lock
from training.meta_training.run_config import starting_from, with_detector_of, with_published_perceptual
from training.meta_training.run_record import journal_of, read_record, send_kept, utc_now, write_record
from training.presets import PRESETS
from training.tracking.target import Target, target_of
from training.tracking.tracker import without_password

if TYPE_CHECKING:
    from training.meta_training.ray_train import Cluster

RENAMED_FLAGS = {
    "--form published": "--no-warp-prior",
    "--form warp": "--warp-prior",
    "--form preset": "",
    "--online": "--synthetic",
    "--online-identities": "--synthetic-identities",
    "--online-motion": "--synthetic-motion",
    "--online-reuse": "--synthetic-reuse",
    "--online-size": "--synthetic-size",
    "--start-from": "--init-from",
    "--read-order": "--shuffle",
    "--scratch": "--shard-cache",
    "--flip": "--augment-flip",
    "--no-flip": "--no-augment-flip",
    "--colour": "--augment-colour",
    "--affine": "--augment-affine",
    "--camera": "--augment-camera",
}
"""Old spellings, accepted until 0.3."""


@dataclass(frozen=True)
class Options:
    """Meta-learn a base model from shards, or from people drawn while training, on the workers of a Ray cluster."""

    preset: tyro.conf.Positional[Literal["paper", "paper_ff", "small", "base", "demo"]]
    """`paper` and `paper_ff` are the published forms at 256 px, `small` is 128 px with a warp prior, `base` 96 px
    and `demo` 64 px."""
    out: Annotated[str, tyro.conf.arg(aliases=["-o"])]
    """Where the run lives: the finished base model, and below it the checkpoints it resumes from."""
    data: str | None = None
    """Data set made by `sfumato preprocess`: a path or URL."""
    synthetic: bool = False
    """In place of --data: synthetic people, drawn on the devices that train. Needs no files and never ends."""
    synthetic_identities: int = SyntheticConfig.num_people
    """How many people there are, each with an identity row; all are met before one is met again."""
    synthetic_motion: OnlineMotion = SyntheticConfig.motion
    """`clips`: motion of a few real films, recombined, and motion that is made up; `procedural`: the latter alone,
    which needs nothing to be fetched."""
    synthetic_reuse: int = SyntheticConfig.reuse
    """Steps in a row that show the same pictures, each with another target: drawing people is the dearest part."""
    synthetic_size: int | None = None
    """Side of the pictures that crops are cut from, pixels; by default half as much again as the model's, up to 256."""
    init_from: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    """Begin with the weights of a base model of the same preset and form, a path or URL, and not with random ones;
    `shipped` is the one that comes along. On a cluster every worker reads it."""
    num_steps: int | None = None
    """Generator updates in all; by default the preset's."""
    learning_rate: float | None = None
    """Of embedder and generator; the discriminator's follows in the preset's proportion. By default the preset's."""
    num_shots: int | None = None
    """K: frames shown to the embedder beside the target; by default the preset's."""
    episodes_per_step: int | None = None
    """Episodes of one step over all workers together; by default the preset's."""
    warp_prior: tyro.conf.FlagCreatePairsOff[bool] = False
    """Start from a shot warped to the target's landmarks, whatever the preset says."""
    no_warp_prior: tyro.conf.FlagCreatePairsOff[bool] = False
    """Generate every pixel, as published, whatever the preset says."""
    shuffle: ReadOrder = "videos"
    """`videos`: an epoch is one shuffle of all videos, read by small byte ranges. `shards`: shards are shuffled, and
    videos within a window of them; from a store the window's shards are fetched whole, each once per epoch."""
    window_shards: int = 16
    """Shards of a window of --shuffle shards. Copies of two windows lie on the local disk."""
    shard_cache: str | None = None
    """Local folder for those copies, shared by the workers of a machine; by default in the cache folder."""
    augment_flip: bool = False
    """Augmentation: mirror every other episode. The paper has none."""
    augment_colour: float = 0.0
    """Augmentation: change an episode's brightness, contrast and saturation by up to this much; 0.1 is a little."""
    augment_affine: float = 0.0
    """Augmentation: turn an episode by up to so many radians, scale and shift it by up to this share of its side."""
    augment_camera: float = 0.0
    """Augmentation: scale, shift and turn each frame of its own in half of the episodes, as a camera in a hand does;
    0.2 is some in a few, little in most of them."""
    vgg19: str | None = None
    """Weights of Caffe's VGG19, for the published content loss: a path or URL of safetensors or a torch state dict.
    Needs --vggface; by default the loss is VGG16's. Every worker reads them: a cluster needs a URL or a shared disk."""
    vggface: str | None = None
    """Weights of Caffe's VGGFace (VGG16), likewise."""
    seed: int = 0
    """Of weights and episodes."""
    workers: int | None = None
    """Training processes; by default one per GPU, or two without."""
    min_workers: int | None = None
    """Go on with as few workers when machines are lost, and take on more when they return. By default the run waits
    until all --workers are there again. A step holds the same episodes whatever their number."""
    max_failures: int = 16
    """Losses of workers or machines, one after the other, that the run outlives; those announced do not count."""
    gpus: bool = False
    """Give each worker a GPU."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of activations: `auto` is bfloat16 on GPUs and float32 without."""
    channels_last: bool = False
    """Keep channels innermost in memory, as tensor cores want them."""
    compile: bool = False
    """Compile the networks: minutes at the start, faster steps."""
    micro_batch: int | None = None
    """Episodes a worker puts through the networks at once, where all of its share do not fit; same result."""
    ray_address: str | None = None
    """A running Ray cluster (or set RAY_ADDRESS); by default one is started on this machine."""
    mlflow: str = "sqlite:///mlflow.db"
    """MLflow tracking URI."""
    mlflow_artifacts: str | None = None
    """Where a new experiment keeps its files; by default `mlartifacts` beside an SQLite file, else MLflow decides."""
    experiment: str = "sfumato"
    """MLflow experiment."""

    def __post_init__(self) -> None:
        if (self.data is None) is not self.synthetic:
            raise ValueError("give either --data ROOT, a data set, or --synthetic, people drawn while training")
        if self.warp_prior and self.no_warp_prior:
            raise ValueError("--warp-prior and --no-warp-prior contradict each other: give one of them")
        if self.learning_rate is not None and not 0 < self.learning_rate < 1:
            raise ValueError(f"--learning-rate must lie between 0 and 1, not {self.learning_rate}")

    def config(self) -> TrainConfig:
        """The preset with this run's changes."""
        changes: dict[str, Any] = {
            "seed": self.seed,
            "read_order": self.shuffle,
            "window_shards": self.window_shards,
            "augmentation": Augmentation(
                self.augment_flip, self.augment_colour, self.augment_affine, self.augment_camera
            ),
        }
        for name in ("num_steps", "num_shots", "episodes_per_step"):
            if getattr(self, name) is not None:
                changes[name] = getattr(self, name)
        preset = PRESETS[self.preset]()
        if self.learning_rate is not None:
            changes["learning_rate"] = self.learning_rate
            ratio = preset.learning_rate_discriminator / preset.learning_rate
            changes["learning_rate_discriminator"] = self.learning_rate * ratio
        if self.warp_prior or self.no_warp_prior:
            changes["model"] = replace(preset.model, warp_prior=self.warp_prior)
        bfloat16 = self.precision == "bfloat16" or (self.precision == "auto" and self.gpus)
        changes["engine"] = ExecutionConfig(
            "bfloat16" if bfloat16 else "float32", self.channels_last, self.compile, self.micro_batch
        )
        if self.synthetic:
            changes["online"] = SyntheticConfig(
                self.synthetic_identities,
                motion=self.synthetic_motion,
                reuse=self.synthetic_reuse,
                render_size=self.synthetic_size,
            )
        return replace(preset, **changes)

    def cluster(self, episodes_per_step: int) -> "Cluster":
        """Where to train.

        Raises:
            ValueError: a number of workers that cannot be.
        """
        from training.meta_training.ray_train import Cluster

        workers = _default_workers(self.gpus) if self.workers is None else self.workers
        least = workers if self.min_workers is None else self.min_workers
        if not 1 <= least <= workers <= episodes_per_step:
            raise ValueError(
                f"workers have to be 1 <= min_workers <= workers <= episodes_per_step, "
                f"not {least}, {workers}, {episodes_per_step}"
            )
        return Cluster(workers, self.gpus, self.ray_address, self.min_workers, self.max_failures)

    def command_line(self) -> str:
        """The line that asks for the same again; of the flags only those that are no defaults."""
        data = ["--synthetic"] if self.data is None else ["--data", self.data]
        words = ["sfumato", "meta-train", self.preset, *data, "-o", self.out]
        for each in fields(self):
            value = getattr(self, each.name)
            if each.default is not MISSING and value != each.default and each.name not in ("data", "synthetic"):
                flag = f"--{each.name.replace('_', '-')}"
                words += [flag] if value is True else [flag, str(value)]
        return without_password(shlex.join(words))

    @property
    def base_model(self) -> str | None:
        """Absolute path or URL of what to start from: workers have folders of their own."""
        if self.init_from is None:
            return None
        return storage.absolute(named_or_shipped(self.init_from))

    def target(self, record: Mapping[str, Any]) -> Target:
        """Where the run logs to; `record` is what run.json says."""
        name = Path(self.out).name or self.preset
        return target_of(self.mlflow, self.mlflow_artifacts, self.experiment, name, record)

    @property
    def absolute_shard_cache(self) -> str | None:
        """Workers have folders of their own."""
        return None if self.shard_cache is None else str(Path(self.shard_cache).absolute())


def run(options: Options) -> CommandResult:
    """Train, or continue, or find that all is done."""
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
    if options.base_model is not None:
        config = starting_from(config, options.base_model)
    source = open_source(root, config)
    for note in source.notes(config):
        console().print(f"sfumato meta-train: {note}", markup=False)
    record = read_record(out, config)
    if storage.exists(storage.join(out, MANIFEST)):
        done = load_bundle(out).origin.step
        if done >= config.num_steps:
            kept = send_kept(options.target(record), out)
            notes = (*source.notes(config), "already trained: nothing to do", kept)
            return _outcome(options, done, source, started, *notes)
    with run_lock.hold(out, on_lost=_thread.interrupt_main), _terminated_as_interrupted():
        return _train(options, config, source, out, files, started)


def _train(
    options: Options, config: TrainConfig, source: Source, out: str, files: PerceptualFiles | None, started: float
) -> CommandResult:
    # Ray takes seconds to import; errors above should not wait for it.
    from training.meta_training.publish import publish
    from training.meta_training.ray_train import checkpoints_of, fit
    from training.tracking.tracker import start_run

    record = read_record(out, config)
    cluster = options.cluster(config.episodes_per_step)
    _, damage = newest_whole(checkpoints_of(out))
    notes = [f"{each}; resumed from the checkpoint before" for each in damage]
    training = Training(options.preset, options.command_line(), version("sfumato"))
    facts = {"command": training.command, "code_version": training.code_version, "preset": options.preset}
    tracker = start_run(
        options.target(record),
        journal_of(out),
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

            def on_progress(step: int, metrics: Mapping[str, float]) -> None:
                if step:
                    latest.update(metrics)
                    loss = f"loss {metrics.get('generator', math.nan):.2f}  {metrics['images_per_second']:.1f} images/s"
                    bar.update(task, completed=step, description=f"meta-train  {loss}")

            checkpoint = fit(
                config,
                source.name,
                out,
                cluster,
                tracker,
                on_progress,
                scratch=options.absolute_shard_cache,
                perceptual_files=files,
                start_from=options.base_model,
            )
        training = replace(training, starts=starts, finished=utc_now(), metrics=latest, hardware=tracker.tags)
        registered = publish(checkpoint, out, source.facts, training, tracker)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        if (kept := tracker.finish(status)) and status != "FINISHED":
            console().print(f"sfumato meta-train: {kept}", markup=False)
        write_record(out, tracker, starts, config)
    notes += _hardships(load_bundle(out).origin)
    return _outcome(options, config.num_steps, source, started, *notes, kept or f"registered as {registered}")


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, as a cluster sends it before it takes a machine away, ends a run like Ctrl-C: with a checkpoint."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _hardships(origin: TrainingProvenance) -> list[str]:
    notes = []
    if origin.skipped_steps:
        notes.append(f"{origin.skipped_steps} steps were skipped: their gradients were not finite")
    if origin.rollbacks:
        notes.append(f"training went back to its last checkpoint {origin.rollbacks} times, because they stayed so")
    return notes


def _outcome(options: Options, steps: int, source: Source, started: float, *notes: str) -> CommandResult:
    return CommandResult(
        made=(Artefact("base model", options.out), Artefact("MLflow", options.mlflow)),
        counts={"steps": steps, **source.counts},
        seconds=time.monotonic() - started,
        notes=tuple(note for note in notes if note),
    )


def _default_workers(gpus: bool) -> int:
    if not gpus:
        return 2
    import torch

    return max(torch.cuda.device_count(), 1)
