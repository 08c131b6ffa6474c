"""One shard from its specification: the unit of work, idempotent, free of Beam."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipelines import schema, storage
from pipelines.clips import ClipConfig, ClipRow, process_clip
from pipelines.landmarks import LandmarkDetector, create_detector
from pipelines.quality import ClipRejected, RejectReason
from pipelines.shard_writer import Reject, ShardReport, read_report, write_shard
from pipelines.sources import Source
from pipelines.timing import Stopwatch


@dataclass(frozen=True)
class ShardSpec:
    """Everything a worker needs to make one shard: paths and config, never pixels."""

    root: str
    split: str
    shard: int
    clips: tuple[Source, ...]
    config: ClipConfig
    config_sha256: str
    spec_sha256: str

    @property
    def report_url(self) -> str:
        """Where the report will lie."""
        return storage.join(self.root, schema.report_name(self.split, self.shard))

    def finished(self) -> ShardReport | None:
        """The report when this very shard is done already."""
        try:
            report = read_report(self.report_url)
        except (FileNotFoundError, ValueError):
            return None
        same = (report.config_sha256, report.spec_sha256) == (self.config_sha256, self.spec_sha256)
        return report if same else None


def process_shard(spec: ShardSpec, detector: LandmarkDetector) -> ShardReport:
    """Process every clip of the shard and write it. Each clip ends as exactly one row, rejected or failed."""
    watch = Stopwatch()
    rows: list[ClipRow] = []
    rejects: list[Reject] = []
    for clip in spec.clips:
        try:
            rows.append(process_clip(clip.key, clip.url, clip.relative, detector, spec.config, watch))
        except ClipRejected as error:
            rejects.append(_reject(clip, error.reason, error.stage, str(error)))
        except OSError as error:
            rejects.append(_reject(clip, RejectReason.STORAGE, "fetch", _one_line(error)))
        except Exception as error:  # noqa: BLE001 - one poisonous clip must not cost the shard; it is a row with a reason
            rejects.append(
                _reject(clip, RejectReason.INTERNAL, "process", f"{type(error).__name__}: {_one_line(error)}")
            )
    return write_shard(
        spec.root,
        spec.split,
        spec.shard,
        rows,
        rejects,
        config_sha256=spec.config_sha256,
        spec_sha256=spec.spec_sha256,
        seconds=watch.seconds,
    )


def _reject(clip: Source, reason: RejectReason, stage: str, message: str) -> Reject:
    return Reject(clip.key, clip.relative, stage, reason.status, str(reason), message[:500], reason.retryable)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


class ShardWorker:
    """Processes shards one after another with one detector, made on first use."""

    def __init__(self) -> None:
        self._detectors: dict[str, LandmarkDetector] = {}

    def __call__(self, spec: ShardSpec) -> ShardReport:
        """Make the shard, unless its report is there already: a bundle that is tried again costs nothing."""
        if (report := spec.finished()) is not None:
            return report
        name = spec.config.detector
        if name not in self._detectors:
            self._detectors[name] = create_detector(name)
        return process_shard(spec, self._detectors[name])


def pending(specs: Iterable[ShardSpec]) -> list[ShardSpec]:
    """The shards that are not done yet."""
    return [spec for spec in specs if spec.finished() is None]
