"""`sfumato preprocess SRC OUT`: turn videos into shards with Beam. A repeated run continues, and adds new clips."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import tyro

from pipelines import storage
from pipelines.cli import CommandResult, console
from pipelines.dataset.paths import HIVE
from pipelines.dataset.report_metrics import ReportMetrics
from pipelines.dataset.schema import SCHEMA_VERSION
from pipelines.faces.crop import CropRule
from pipelines.faces.detectors import require_weights, resolve_detector
from pipelines.machine import available_cpus
from pipelines.media.container import VIDEO_SUFFIXES
from pipelines.media.decoder.process import Decoder, Limits
from pipelines.metrics_endpoint import metrics_endpoint, parse_address
from pipelines.planning.layouts import LayoutName
from pipelines.planning.plan import PlanConfig
from pipelines.planning.plan_file import PlanFile, plan_exists
from pipelines.planning.prepare import PlanRequest, prepare
from pipelines.preprocess.beam.dataflow import RUNNER as DATAFLOW
from pipelines.preprocess.config import ClipConfig
from pipelines.preprocess.quality import QualityRule
from pipelines.preprocess.run import RunnerOptions, check_runner, check_writable_by, finish_dataset, finish_from_reports
from pipelines.preprocess.run_record import LEASE
from pipelines.preprocess.shard_worker import WorkerOptions
from pipelines.storage import lease

_MANY_CLIPS = 50
_JPEG_BYTES_PER_PIXEL = 0.37  # face crops at quality 95, 4:4:4: about 24 kB at 256 px


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
    """Turn videos into a data set of face crops and landmarks."""

    src: tyro.conf.Positional[str]
    """Folder of videos or of folders of frames, a video, an uncompressed .tar of videos, or a manifest (.csv, .tsv,
    .jsonl or .json with the columns path, identity, video, clip, split)."""
    out: tyro.conf.Positional[str]
    """Path or URL of the data set. An unfinished one is continued; new clips of SRC are added."""
    layout: LayoutName = "auto"
    """Layout of SRC: how the paths say who is in a film; `auto` recognises it. `voxceleb`: identity/video/clip.mp4, or
    identity/video.mp4 with VoxCeleb's txt files of boxes. `flat`: every film is a person. `frames`: as flat, every
    folder of pictures is a film. The others are published data sets."""
    identity_from: str | None = None
    """Regular expression that finds the identity in each film's path below SRC, with the group (?P<identity>...), and
    (?P<video>...) and (?P<clip>...) where wanted; instead of a layout."""
    test_list: str | None = None
    """File of identities to hold out for testing, one per line, or VoxCeleb's meta csv. VoxCeleb's own test identities
    are always held out. A name that no film has is an error."""
    detector: Literal["auto", "mediapipe", "face-alignment", "dlib"] = "mediapipe"
    """Landmark detector (68 points). `auto` is face-alignment if a GPU and its weights are available, else
    mediapipe."""
    face_detector: Literal["yunet", "s3fd", "blazeface"] = "yunet"
    """Face detector that gives face-alignment its boxes; dlib always uses yunet."""
    detector_weights: str | None = None
    """Folder or URL of the detector's weights, if they are not in the default locations."""
    device: str = "cpu"
    """Device that the detector's networks run on, such as `cuda`."""
    frames_per_clip: int = 16
    """Frames kept per clip, chosen to cover pose and expression."""
    min_frames: int = 9
    """Least number of frames with a face (K + 1 for K shots); clips with fewer are rejected."""
    size: int = 256
    """Side of the crops in pixels."""
    max_sample_fps: float = 12.5
    """Frames sampled per second of video, at most."""
    frame_rate: float = 25.0
    """Frames per second of folders of frames."""
    min_face: float = 32.0
    """Smallest face accepted, in pixels of the source video."""
    min_sharpness: float = 3.0
    """Least sharpness accepted (variance of the Laplacian over the face)."""
    audio: bool = True
    """Store the clips' sound in the shards."""
    val_fraction: float = 0.05
    """Share of identities held out for validation, by hash of the identity."""
    test_fraction: float = 0.05
    """Share of identities held out for testing, by hash; ignored if the source has test identities of its own."""
    shard_mb: int = 128
    """Predicted size of a shard in MiB."""
    licence: str = "not stated"
    """Licence of the source, recorded in the data set and its card."""
    add: bool = False
    """Add SRC to a data set that was begun from another source."""
    trial_clips: int = 8
    """Clips processed in a trial run before a large run, to forecast its cost; 0 disables."""
    decoder_timeout: float = 60.0
    """Seconds without progress after which the decoder is ended and the clip fails."""
    max_failed_fraction: float = 0.1
    """Share of a worker's clips that may fail (rejected clips do not count) before the run stops."""
    runner: str = "local"
    """`local` (this machine), or the name of a Beam runner (DataflowRunner, FlinkRunner, ...)."""
    workers: int = dataclasses.field(default_factory=available_cpus)
    """Shards made at once by the local runner."""
    accelerator: str | None = None
    """GPU of each worker of a remote runner, as a Beam resource hint:
    `type:nvidia-tesla-t4;count:1;install-nvidia-driver`."""
    min_ram: str | None = None
    """Least memory of each worker of a remote runner, such as `8GB`."""
    detach: bool = False
    """Submit the job to Dataflow and leave it to itself."""
    finish: bool = False
    """Write the manifest of OUT from its shards, which are all made, and do nothing else: for a run whose command is
    gone. SRC is not read."""
    metrics_address: str | None = None
    """Where this command answers Prometheus while it runs: a port of loopback, or HOST:PORT; default: nowhere."""
    beam_args: tyro.conf.Suppress[tuple[str, ...]] = ()
    """Flags for Beam: those that Sfumato does not know."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")
        if self.shard_mb < 1:
            raise ValueError(f"shard_mb must be at least 1, got {self.shard_mb}")
        if self.trial_clips < 0:
            raise ValueError(f"trial_clips must be at least 0, got {self.trial_clips}")
        if self.decoder_timeout <= 0:
            raise ValueError(f"decoder_timeout must be positive, got {self.decoder_timeout}")
        if self.detach and self.runner != DATAFLOW:
            raise ValueError(f"detach leaves a job to a service, which --runner {self.runner} has not: {DATAFLOW} has")
        if self.detach and self.finish:
            raise ValueError("detach begins a run and finish ends one: give one of them")
        if self.metrics_address is not None:
            parse_address(self.metrics_address)
        if not 0 < self.max_failed_fraction <= 1:
            raise ValueError(f"max_failed_fraction must lie in (0, 1], got {self.max_failed_fraction}")

    def clip_config(self, detector: str) -> ClipConfig:
        """Return the config that determines a row's content. Raises ValueError for values out of range."""
        return ClipConfig(
            detector=detector,
            detector_boxes="yunet" if detector == "mediapipe" else self.face_detector,
            frames_per_clip=self.frames_per_clip,
            size=self.size,
            fps_limit=self.max_sample_fps,
            audio=self.audio,
            frame_rate=self.frame_rate,
            crop=CropRule(),
            quality=QualityRule(self.min_frames, self.min_face, self.min_sharpness),
        )

    def plan_config(self) -> PlanConfig:
        """Return the config that determines splits and shards."""
        frame_bytes = int(self.size**2 * _JPEG_BYTES_PER_PIXEL)
        return PlanConfig(
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            shard_bytes=self.shard_mb * 1024 * 1024,
            clip_bytes=self.frames_per_clip * frame_bytes,
        )

    def runner_options(self) -> RunnerOptions:
        """Return the options of the runner and its workers."""
        worker_options = WorkerOptions(
            device=self.device,
            weights=self.detector_weights,
            limits=Limits(stall_s=self.decoder_timeout),
            failure_budget=self.max_failed_fraction,
        )
        hints = {"accelerator": self.accelerator, "min_ram": self.min_ram}
        given = {name: value for name, value in hints.items() if value is not None}
        return RunnerOptions(
            self.runner,
            self.workers,
            self.beam_args,
            self.trial_clips,
            worker_options,
            given,
            self.detach,
        )


def accept_unknown(options: Options, args: list[str]) -> Options:
    """Pass unknown flags to Beam. Raises ValueError for a flag that Beam does not know either."""
    from pipelines.preprocess.beam.runner import check_beam_args

    check_beam_args(args)
    return dataclasses.replace(options, beam_args=tuple(args))


def run(options: Options) -> CommandResult:
    """Plan, make the shards that are not done, and write the manifest last.

    Raises:
        FileNotFoundError: SRC does not exist.
        ValueError: SRC holds no clip, OUT holds a data set made with another config or from other inputs, or another
            process is at work on it.
    """
    begin = time.monotonic()
    source = options.src.rstrip("/").rpartition("/")[2] or options.src
    if options.finish:
        return _finish(options, source, begin)
    detector, reason = resolve_detector(options.detector, boxes=options.face_detector, weights=options.detector_weights)
    if options.detector == "auto":
        console().print(f"detector: {reason}")
    config, plan_config, runner = options.clip_config(detector), options.plan_config(), options.runner_options()
    _probe_single_video(options.src)
    weights = require_weights(detector, boxes=config.detector_boxes, weights=options.detector_weights)
    settings = config_record(config, plan_config, weights)
    request = PlanRequest(
        options.src,
        options.out,
        options.layout,
        settings,
        plan_config,
        options.test_list,
        options.add,
        options.identity_from,
    )
    check_runner(runner)
    plan_exists(options.out)  # raises if OUT is no place for a data set
    metrics = ReportMetrics()
    with metrics_endpoint(options.metrics_address, metrics.collect), lease.hold(options.out, LEASE):
        check_writable_by(options.out, options.runner)
        prepared = prepare(request)
        if prepared.changes.num_new >= _MANY_CLIPS:  # the notes are shown at the end, and it takes a while until then
            for line in prepared.listing_notes:
                console().print(line, markup=False)
        corpus, notes = prepared.plan.corpus, prepared.notes()
        return finish_dataset(
            prepared.plan,
            corpus,
            runner,
            source=source,
            licence=options.licence,
            notes=notes,
            begin=begin,
            metrics=metrics if options.metrics_address is not None else None,
        )


def _finish(options: Options, source: str, begin: float) -> CommandResult:
    PlanFile(options.out)  # raises if OUT was never begun, before anything is written into it
    with lease.hold(options.out, LEASE):
        return finish_from_reports(options.out, WorkerOptions(), source=source, licence=options.licence, begin=begin)


def _probe_single_video(src: str) -> None:
    """If SRC is a single local video, raise at once when it cannot be read."""
    named = PurePosixPath(src).suffix.lower() in VIDEO_SUFFIXES and storage.is_local(src)
    if named and storage.exists(src) and not storage.is_folder(src):
        with Decoder() as decoder:
            decoder.describe(storage.local_path(src))


def config_record(config: ClipConfig, plan: PlanConfig, weights: Mapping[str, str]) -> dict[str, Any]:
    """Return everything that the shards depend on besides the inputs: the config whose hash they record."""
    # clip_bytes follows from the clip's config; listing it as a difference of its own would confuse.
    planned = {name: value for name, value in asdict(plan).items() if name != "clip_bytes"}
    clip = asdict(config)
    if config.frame_rate == ClipConfig.frame_rate:
        del clip["frame_rate"]  # data sets from before the field can be continued
    return {
        "schema_version": SCHEMA_VERSION,
        "file_layout": HIVE,
        "clip": clip,
        "plan": planned,
        "weights": dict(weights),
    }
