"""Make one shard from its specification. This is the unit of work of every runner: idempotent, and free of Beam."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from pipelines import storage
from pipelines.dataset import schema
from pipelines.dataset.paths import HIVE, ShardPaths, shard_paths
from pipelines.dataset.rows import ClipRow, Reject
from pipelines.dataset.shard_report import ShardReport, parse_report
from pipelines.dataset.shard_writer import write_shard
from pipelines.faces.detectors import create_detector
from pipelines.faces.face import LandmarkDetector
from pipelines.media.decoder.process import Decoder, Limits
from pipelines.planning.plan import PlannedClip
from pipelines.planning.plan_file import PlanFile, plan_row, read_shard, to_clip
from pipelines.preprocess.config import ClipConfig
from pipelines.preprocess.failure_budget import FailureBudget, FailureBudgetExceeded
from pipelines.preprocess.process_clips import process_clips
from pipelines.preprocess.stopwatch import Stopwatch

STOP = "stop.txt"
"""A worker whose failure budget is exceeded writes this file; the other workers then start no further shard."""


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker runs. None of this changes the rows of a shard."""

    device: str = "cpu"
    weights: str | None = None
    """Folder or URL of the detector's weights; None: their default locations."""
    limits: Limits = field(default_factory=Limits)
    failure_budget: float = 0.1
    """Share of a worker's clips that may fail before it stops the run."""


@dataclass(frozen=True)
class ShardSpec:
    """Everything a worker needs to make one shard: its place and config, but no clips and no pixels."""

    root: str
    corpus: str
    """Folder that relative source paths start from."""
    split: str
    shard: int
    config: ClipConfig
    config_sha256: str
    spec_sha256: str
    worker_options: WorkerOptions = field(default_factory=WorkerOptions)
    layout: str = HIVE
    plan_part: str = ""
    """Path below `root` of the part of the plan that holds the shard's clips; empty for a plan that is one file."""
    row_group: int = 0
    """Where in that part."""

    @property
    def paths(self) -> ShardPaths:
        """The paths of the shard's files, relative to `root`."""
        return shard_paths(self.split, self.shard, self.layout)

    def finished(self) -> ShardReport | None:
        """Return the shard's report if the shard is done for this config and these inputs, else None."""
        try:
            data = storage.read_bytes(storage.join(self.root, self.paths.report))
        except FileNotFoundError:
            return None
        return self.accepts(data)

    def accepts(self, data: bytes | None) -> ShardReport | None:
        """Return the report that a file's contents are, if it is of this shard with this config and these inputs."""
        if data is None:
            return None
        try:
            report = parse_report(data, self.paths.report)
        except ValueError:
            return None
        same = (report.config_sha256, report.spec_sha256) == (self.config_sha256, self.spec_sha256)
        return report if same else None

    def clips(self) -> list[PlannedClip]:
        """Read the shard's clips from the plan. Raises ValueError when the plan has changed since the spec was made."""
        if self.plan_part:
            clips = [to_clip(row) for row in read_shard(storage.join(self.root, self.plan_part), self.row_group)]
        else:
            clips = PlanFile(self.root).clips(self.shard)
        if schema.spec_digest(self.config_sha256, map(plan_row, clips)) != self.spec_sha256:
            raise ValueError(f"{self.root}: the plan of shard {self.shard} has changed since the run began")
        return clips


class ShardWorker:
    """Makes shards one after another. The detector and the decoder are created on first use and reused."""

    def __init__(self) -> None:
        self._detectors: dict[tuple[str, str, str, str | None, float | None], LandmarkDetector] = {}
        self._decoder: Decoder | None = None
        self._budget: FailureBudget | None = None

    def __call__(self, spec: ShardSpec) -> ShardReport | None:
        """Make the shard, or return its report if it is already done, so that a retried Beam bundle costs nothing.

        Returns None when the run is to stop because too many clips failed, in this worker or another. An exception
        would make the runner retry the shard, and would not stop the other workers.
        """
        if (report := spec.finished()) is not None:
            return report
        if storage.exists(storage.join(spec.root, STOP)):
            return None
        self._budget = self._budget or FailureBudget(spec.worker_options.failure_budget)
        try:
            return process_shard(spec, self.detector(spec), self.decoder(spec), self._budget)
        except FailureBudgetExceeded as error:
            storage.write_bytes(storage.join(spec.root, STOP), str(error).encode())
            return None

    def detector(self, spec: ShardSpec) -> LandmarkDetector:
        """Return the detector that the spec names."""
        options, config = spec.worker_options, spec.config
        min_face = config.quality.min_face if config.second_look else None
        wanted = (config.detector, config.detector_boxes, options.device, options.weights, min_face)
        if wanted not in self._detectors:
            name, boxes, device, weights, _ = wanted
            self._detectors[wanted] = create_detector(
                name, boxes=boxes, device=device, weights=weights, min_face=min_face
            )
        return self._detectors[wanted]

    def decoder(self, spec: ShardSpec) -> Decoder:
        """Return the decoder, with the spec's limits."""
        rate = Fraction(spec.config.frame_rate).limit_denominator(1001)
        self._decoder = self._decoder or Decoder(spec.worker_options.limits, rate)
        return self._decoder

    def close(self) -> None:
        """End the decoder's process."""
        if self._decoder is not None:
            self._decoder.close()


def process_shard(
    spec: ShardSpec, detector: LandmarkDetector, decoder: Decoder, budget: FailureBudget | None = None
) -> ShardReport:
    """Process every clip of the shard and write it. Each clip becomes exactly one row or one reject.

    Raises:
        FailureBudgetExceeded: more clips failed than `budget` allows; nothing is written.
    """
    watch = Stopwatch()
    clips = spec.clips()
    rows: list[ClipRow] = []
    rejects: list[Reject] = []
    for outcome in process_clips(clips, spec.corpus, detector, decoder, spec.config, watch):
        reject = outcome if isinstance(outcome, Reject) else None
        if isinstance(outcome, Reject):
            rejects.append(outcome)
        else:
            rows.append(outcome)
        if budget is not None:
            budget.count(reject)
    return write_shard(
        spec.root,
        spec.split,
        spec.shard,
        rows,
        rejects,
        config_sha256=spec.config_sha256,
        spec_sha256=spec.spec_sha256,
        num_retried=sum(clip.attempt > 1 for clip in clips),
        seconds=watch.seconds,
        layout=spec.layout,
    )
