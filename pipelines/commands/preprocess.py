"""`sfumato preprocess SRC OUT`: videos -> shards, with Beam. Run again, it continues, and takes in what is new."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import tyro

from pipelines import storage
from pipelines.cli import CommandResult, console
from pipelines.dataset.schema import SCHEMA_VERSION
from pipelines.faces.crop import CropRule
from pipelines.faces.detectors import require_weights, resolve_detector
from pipelines.media.container import VIDEO_SUFFIXES
from pipelines.media.decoder_process import Decoder, Limits
from pipelines.planning.plan import PlanConfig
from pipelines.planning.prepare import PlanRequest, prepare
from pipelines.planning.sources import Layout
from pipelines.preprocess.config import ClipConfig
from pipelines.preprocess.quality import QualityRule
from pipelines.preprocess.run import RunnerOptions, finish_dataset
from pipelines.preprocess.shard_worker import WorkerOptions

_JPEG_BYTES_PER_PIXEL = 0.37  # q95 4:4:4 crops of faces: about 24 kB at 256 px


RENAMED_FLAGS = {
    "--detector-boxes": "--face-detector",
    "--fps-limit": "--max-sample-fps",
    "--canary": "--trial-clips",
    "--clip-timeout": "--decoder-timeout",
    "--failure-budget": "--max-failed-fraction",
}
"""Old spellings, accepted until 0.3."""


@dataclass(frozen=True)
class Options:
    """Videos in, shards of face crops and landmarks out."""

    src: tyro.conf.Positional[str]
    """Folder of videos, one video, an uncompressed .tar of videos, or a manifest (.jsonl or .csv: path, identity,
    video, clip, split)."""
    out: tyro.conf.Positional[str]
    """Where the data set goes: a path or URL. An unfinished one is continued, new clips of SRC are added."""
    layout: Layout = "auto"
    """How SRC is laid out; `voxceleb` is identity/video/clip.mp4, or identity/video.mp4 with VoxCeleb's txt files."""
    test_list: str | None = None
    """Identities to hold out for testing, one a line, or VoxCeleb's meta csv. VoxCeleb's own are always held out."""
    detector: Literal["auto", "mediapipe", "face-alignment", "dlib"] = "mediapipe"
    """Finds faces and their 68 landmarks. `auto` is face-alignment where a GPU and its weights are at hand."""
    face_detector: Literal["yunet", "s3fd", "blazeface"] = "yunet"
    """Where face-alignment and dlib get their boxes from."""
    detector_weights: str | None = None
    """Folder or URL with the detector's weights, where they are not in their usual places."""
    device: str = "cpu"
    """Device of the detector's network, such as `cuda`."""
    frames_per_clip: int = 16
    """Frames kept of each clip, spread over pose and expression."""
    min_frames: int = 9
    """Frames with a face that a clip must have (K + 1 for K shots), else it is rejected."""
    size: int = 256
    """Side of the crops in pixels."""
    max_sample_fps: float = 12.5
    """Frames looked at per second of film, at most."""
    min_face: float = 32.0
    """Smallest face accepted, in pixels of the source."""
    min_sharpness: float = 3.0
    """Least sharpness accepted (variance of the Laplacian over the face)."""
    audio: bool = True
    """Keep the clips' sound in the shards."""
    val_fraction: float = 0.05
    """Share of identities held out for validation, by hash of the identity."""
    test_fraction: float = 0.05
    """Share of identities held out for testing; 0 where the source has test identities of its own."""
    shard_mb: int = 128
    """Predicted size at which a shard is closed."""
    licence: str = "not stated"
    """Licence of the source, recorded in the data set and its card."""
    add: bool = False
    """Add SRC to a data set that was begun from another source."""
    trial_clips: int = 8
    """Clips tried before a large run, for a forecast; 0 for none."""
    decoder_timeout: float = 60.0
    """Seconds that a film's decoder may be silent before the clip is given up."""
    max_failed_fraction: float = 0.1
    """Share of a worker's clips that may fail (not: be rejected) before the run is stopped."""
    runner: str = "local"
    """`local` (this machine), or a Beam runner by name (DataflowRunner, FlinkRunner, ...)."""
    workers: int = dataclasses.field(default_factory=lambda: os.cpu_count() or 1)
    """Shards made at once by the local runner."""
    accelerator: str | None = None
    """GPU of each worker of a far engine, in Beam's words: `type:nvidia-tesla-t4;count:1;install-nvidia-driver`."""
    min_ram: str | None = None
    """Least memory of each worker of a far engine, such as `8GB`."""
    beam_args: tyro.conf.Suppress[tuple[str, ...]] = ()
    """Flags that this verb does not know and Beam does."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")
        if self.shard_mb < 1:
            raise ValueError(f"shard_mb must be at least 1, got {self.shard_mb}")
        if self.trial_clips < 0:
            raise ValueError(f"trial_clips must be at least 0, got {self.trial_clips}")
        if self.decoder_timeout <= 0:
            raise ValueError(f"decoder_timeout must be positive, got {self.decoder_timeout}")
        if not 0 < self.max_failed_fraction <= 1:
            raise ValueError(f"max_failed_fraction must lie in (0, 1], got {self.max_failed_fraction}")

    def clip_config(self, detector: str) -> ClipConfig:
        """What decides the content of a row. Raises ValueError for values out of range."""
        return ClipConfig(
            detector=detector,
            detector_boxes="yunet" if detector == "mediapipe" else self.face_detector,
            frames_per_clip=self.frames_per_clip,
            size=self.size,
            fps_limit=self.max_sample_fps,
            audio=self.audio,
            crop=CropRule(),
            quality=QualityRule(self.min_frames, self.min_face, self.min_sharpness),
        )

    def plan_config(self) -> PlanConfig:
        """What decides splits and shards."""
        frame_bytes = int(self.size**2 * _JPEG_BYTES_PER_PIXEL)
        return PlanConfig(
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            shard_bytes=self.shard_mb * 1024 * 1024,
            clip_bytes=self.frames_per_clip * frame_bytes,
        )

    def engine(self) -> RunnerOptions:
        """What runs the shards."""
        tools = WorkerOptions(
            device=self.device,
            weights=self.detector_weights,
            limits=Limits(stall_s=self.decoder_timeout),
            failure_budget=self.max_failed_fraction,
        )
        hints = {"accelerator": self.accelerator, "min_ram": self.min_ram}
        wanted = {name: value for name, value in hints.items() if value is not None}
        return RunnerOptions(self.runner, self.workers, self.beam_args, self.trial_clips, tools, wanted)


def accept_unknown(options: Options, args: list[str]) -> Options:
    """Take flags that are not ours as Beam's. Raises ValueError for what Beam does not know either."""
    from pipelines.preprocess.beam_runner import check_beam_args

    check_beam_args(args)
    return dataclasses.replace(options, beam_args=tuple(args))


def run(options: Options) -> CommandResult:
    """Plan, run what is not done, and write the manifest last.

    Raises:
        FileNotFoundError: SRC does not exist.
        ValueError: nothing to do in SRC, or OUT holds a data set made with another config or other inputs.
    """
    begin = time.monotonic()
    detector, reason = resolve_detector(options.detector, boxes=options.face_detector, weights=options.detector_weights)
    if options.detector == "auto":
        console().print(f"detector: {reason}")
    config, plan_config, engine = options.clip_config(detector), options.plan_config(), options.engine()
    _probe_single_video(options.src)
    weights = require_weights(detector, boxes=config.detector_boxes, weights=options.detector_weights)
    settings = config_record(config, plan_config, weights)
    prepared = prepare(
        PlanRequest(options.src, options.out, options.layout, settings, plan_config, options.test_list, options.add)
    )
    corpus = prepared.plan.corpus
    source = options.src.rstrip("/").rpartition("/")[2] or options.src
    return finish_dataset(
        prepared.plan, corpus, engine, source=source, licence=options.licence, notes=prepared.notes(), begin=begin
    )


def _probe_single_video(src: str) -> None:
    """One video, named by hand: say at once what is wrong with it."""
    named = PurePosixPath(src).suffix.lower() in VIDEO_SUFFIXES and storage.is_local(src)
    if named and storage.exists(src) and not storage.is_folder(src):
        with Decoder() as decoder:
            decoder.describe(storage.local_path(src))


def config_record(config: ClipConfig, plan: PlanConfig, weights: Mapping[str, str]) -> dict[str, Any]:
    """Everything that the shards depend on besides the inputs: the config whose hash they carry."""
    # Predicted sizes follow from the clip's config; as a difference of their own they would only puzzle.
    planned = {name: value for name, value in asdict(plan).items() if name != "clip_bytes"}
    return {"schema_version": SCHEMA_VERSION, "clip": asdict(config), "plan": planned, "weights": dict(weights)}
