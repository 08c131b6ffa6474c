"""Options of `sfumato meta-train`, and the training configuration, cluster and MLflow run that they select."""

import shlex
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from training.config import (
    Augmentation,
    ExecutionConfig,
    OnlineMotion,
    Precision,
    ReadOrder,
    SyntheticConfig,
    TrainConfig,
)
from training.presets import PRESETS
from training.tracking.target import Target, make_target, without_password

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
    """Meta-train a base model on the workers of a Ray cluster, from shards or from people rendered during training."""

    preset: tyro.conf.Positional[Literal["paper", "paper_ff", "small", "base", "demo"]]
    """Configuration to start from: `paper` and `paper_ff` are the published ones (256 px); `small` (128 px), `base`
    (96 px) and `demo` (64 px) use a warp prior."""
    out: Annotated[str, tyro.conf.arg(aliases=["-o"])]
    """Folder or URL of the run: the finished base model, and below it the checkpoints to resume from."""
    data: str | None = None
    """Data set made by `sfumato preprocess`: a path or URL."""
    synthetic: bool = False
    """Instead of --data: train on synthetic people, rendered on the training devices. Needs no files."""
    synthetic_identities: int = SyntheticConfig.num_people
    """Number of synthetic people, each with its own identity row. An epoch visits each person once."""
    synthetic_motion: OnlineMotion = SyntheticConfig.motion
    """`clips`: recombined motion of a few real clips, mixed with procedural motion; `procedural`: procedural motion
    only, which downloads nothing."""
    synthetic_reuse: int = SyntheticConfig.reuse
    """Number of consecutive steps that use the same frames, each with another target. Rendering costs several times as
    much as a training step."""
    synthetic_size: int | None = None
    """Height and width of the rendered frames that crops are taken from, pixels; default: 1.5 times the model's image
    size, up to 256."""
    init_from: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    """Start from the weights of this base model instead of random weights: a path or URL, models:/NAME@ALIAS, which is
    copied into the run, or `shipped` for the bundled one. It must have the same architecture. On a cluster every worker
    reads it."""
    num_steps: int | None = None
    """Total number of generator updates; default: the preset's."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; default: the preset's. It may change when a run resumes."""
    learning_rate: float | None = None
    """Learning rate of embedder and generator; default: the preset's. The discriminator's is scaled by the same
    factor."""
    num_shots: int | None = None
    """K: number of frames that the embedder sees, the target not included; default: the preset's."""
    episodes_per_step: int | None = None
    """Episodes per step, summed over all workers; default: the preset's."""
    warp_prior: tyro.conf.FlagCreatePairsOff[bool] = False
    """Generate from a shot warped to the target's landmarks; overrides the preset."""
    no_warp_prior: tyro.conf.FlagCreatePairsOff[bool] = False
    """Generate every pixel, as published; overrides the preset."""
    shuffle: ReadOrder = "videos"
    """`videos`: shuffle all videos of an epoch and read them by small byte ranges. `shards`: shuffle the shards, and
    the videos within a window of shards; from remote storage each shard is downloaded whole, once per epoch."""
    window_shards: int = 16
    """With --shuffle shards: number of shards in a window. The local disk holds copies of two windows."""
    shard_cache: str | None = None
    """Local folder for these copies, shared by the workers of a machine, and for the index of a data set of a million
    frames and more, which they share; default: a folder in the cache."""
    augment_flip: bool = False
    """Augmentation: mirror each episode with probability 1/2. The paper uses no augmentation."""
    augment_colour: float = 0.0
    """Augmentation: change an episode's brightness, contrast and saturation by up to this fraction; 0.1 is mild."""
    augment_affine: float = 0.0
    """Augmentation: rotate an episode by up to this many radians; scale and shift it by up to this fraction of its
    side."""
    augment_camera: float = 0.0
    """Augmentation: imitate a hand-held camera. In half of the episodes, scale each frame by up to exp(±V), and shift
    and rotate it by a fraction of V; 0 disables; 0.2 is moderate."""
    vgg19: str | None = None
    """Weights of Caffe's VGG19 for the published content loss: path or URL of safetensors or a torch state dict. Needs
    --vggface; default: a VGG16 loss. Every worker reads the file: a cluster needs a URL or a shared disk."""
    vggface: str | None = None
    """Weights of Caffe's VGGFace (VGG16); see --vgg19."""
    seed: int = 0
    """Random seed of initial weights and episodes."""
    workers: int | None = None
    """Number of training processes; default: one per GPU, or two on CPU."""
    min_workers: int | None = None
    """Elastic training: continue with at least this many workers when machines are lost, and grow again when they
    return. Default: wait until all --workers are available. A step has the same episodes for any number of workers."""
    max_failures: int = 16
    """Number of worker or machine failures to tolerate before the run fails; announced preemptions do not count."""
    gpus: bool = False
    """Assign one GPU to each worker."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Data type of activations: `auto` is bfloat16 on GPUs and float32 on CPU."""
    channels_last: bool = False
    """Use the channels-last memory format, which tensor cores prefer."""
    compile: tyro.conf.FlagCreatePairsOff[bool] = False
    """Compile the networks with torch.compile: takes minutes at the start, then steps are faster. Default: on GPUs, if
    the worker has a C compiler."""
    no_compile: tyro.conf.FlagCreatePairsOff[bool] = False
    """Never compile the networks."""
    micro_batch: int | None = None
    """Episodes per forward pass of a worker (gradient accumulation), when its share does not fit in memory; the result
    is the same."""
    ray_address: str | None = None
    """Address of a running Ray cluster (or set RAY_ADDRESS); default: start one on this machine."""
    metrics_address: str | None = None
    """Where this command answers Prometheus while it runs: a port of loopback, or HOST:PORT; default: nowhere."""
    mlflow: str = "sqlite:///mlflow.db"
    """MLflow tracking URI."""
    mlflow_artifacts: str | None = None
    """Artifact location of a new experiment; default: `mlartifacts` beside an SQLite file, of another
    database `mlartifacts` beside the run, else the server's choice."""
    experiment: str = "sfumato"
    """Name of the MLflow experiment."""
    plan: bool = False
    """Print memory, exchanged bytes, checkpoints and expected hours, here and on cards, and do not train."""

    def __post_init__(self) -> None:
        if (self.data is None) is not self.synthetic and not (self.plan and self.data is None):
            raise ValueError("give either --data ROOT, a data set, or --synthetic, people drawn while training")
        if self.warp_prior and self.no_warp_prior:
            raise ValueError("--warp-prior and --no-warp-prior contradict each other: give one of them")
        if self.compile and self.no_compile:
            raise ValueError("--compile and --no-compile contradict each other: give one of them")
        if self.learning_rate is not None and not 0 < self.learning_rate < 1:
            raise ValueError(f"--learning-rate must lie between 0 and 1, not {self.learning_rate}")

    def config(self) -> TrainConfig:
        """Return the preset with the options applied."""
        changes: dict[str, Any] = {
            "seed": self.seed,
            "read_order": self.shuffle,
            "window_shards": self.window_shards,
            "augmentation": Augmentation(**self._with_prefix("augment_")),
        }
        overrides = {
            name: getattr(self, name) for name in ("num_steps", "num_shots", "episodes_per_step", "checkpoint_every")
        }
        changes |= {name: value for name, value in overrides.items() if value is not None}
        preset = PRESETS[self.preset]()
        if self.learning_rate is not None:
            changes["learning_rate"] = self.learning_rate
            ratio = preset.learning_rate_discriminator / preset.learning_rate
            changes["learning_rate_discriminator"] = self.learning_rate * ratio
        if self.warp_prior or self.no_warp_prior:
            changes["model"] = replace(preset.model, warp_prior=self.warp_prior)
        bfloat16 = self.precision == "bfloat16" or (self.precision == "auto" and self.gpus)
        compiled = self.compile if self.compile or self.no_compile else None
        precision: Precision = "bfloat16" if bfloat16 else "float32"
        changes["engine"] = ExecutionConfig(precision, self.channels_last, compiled, self.micro_batch)
        if self.synthetic:
            synthetic = self._with_prefix("synthetic_")
            renamed = {"num_people": synthetic.pop("identities"), "render_size": synthetic.pop("size")}
            changes["online"] = SyntheticConfig(**renamed, **synthetic)
        return replace(preset, **changes)

    def _with_prefix(self, prefix: str) -> dict[str, Any]:
        """Return the options whose names start with `prefix`, keyed by the rest of the name."""
        names = [each.name for each in fields(self) if each.name.startswith(prefix)]
        return {name.removeprefix(prefix): getattr(self, name) for name in names}

    def cluster(self, episodes_per_step: int) -> "Cluster":
        """Return the resources to train on.

        Raises:
            ValueError: not 1 <= min_workers <= workers <= `episodes_per_step`.
        """
        workers, _ = self.num_workers_of(episodes_per_step)
        from training.meta_training.ray_train import Cluster  # takes seconds

        return Cluster(workers, self.gpus, self.ray_address, self.min_workers, self.max_failures)

    def num_workers_of(self, episodes_per_step: int) -> tuple[int, int]:
        """Return the number of workers and the least to go on with.

        Raises:
            ValueError: not 1 <= min_workers <= workers <= `episodes_per_step`.
        """
        workers = _default_workers(self.gpus) if self.workers is None else self.workers
        least = workers if self.min_workers is None else self.min_workers
        if not 1 <= least <= workers <= episodes_per_step:
            raise ValueError(
                f"workers have to be 1 <= min_workers <= workers <= episodes_per_step, "
                f"not {least}, {workers}, {episodes_per_step}; for more workers raise --episodes-per-step, and "
                "--learning-rate by its square root"
            )
        return workers, least

    def command_line(self) -> str:
        """Return the command that repeats this run: only flags whose values differ from the defaults."""
        data = ["--synthetic"] if self.data is None else ["--data", self.data]
        arguments = ["sfumato", "meta-train", self.preset, *data, "-o", self.out]
        for each in fields(self):
            value = getattr(self, each.name)
            if each.default is not MISSING and value != each.default and each.name not in ("data", "synthetic"):
                flag = f"--{each.name.replace('_', '-')}"
                arguments += [flag] if value is True else [flag, str(value)]
        return without_password(shlex.join(arguments))

    def target(self, record: Mapping[str, Any]) -> Target:
        """Return the MLflow run to log to; `record` is the content of run.json."""
        name = Path(self.out).name or self.preset
        return make_target(self.mlflow, self.mlflow_artifacts, self.experiment, name, record, out=self.out)

    @property
    def absolute_shard_cache(self) -> str | None:
        """`shard_cache` as an absolute path: workers have other working directories."""
        return None if self.shard_cache is None else str(Path(self.shard_cache).absolute())


def _default_workers(gpus: bool) -> int:
    if not gpus:
        return 2
    import torch

    return max(torch.cuda.device_count(), 1)
