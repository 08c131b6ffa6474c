"""One shard from its specification: the unit of work, idempotent, free of Beam."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipelines import storage
from pipelines.dataset import schema
from pipelines.dataset.rows import ClipRow, Reject
from pipelines.dataset.shard_report import ShardReport, read_report
from pipelines.dataset.shard_writer import write_shard
from pipelines.faces.detectors import create_detector
from pipelines.faces.face import Face, LandmarkDetector
from pipelines.media.decoder_process import Decoder, DecoderDied, Limits
from pipelines.planning.plan import PlannedClip, below, source_url
from pipelines.planning.plan_file import PlanFile, plan_row
from pipelines.preprocess.candidate_frames import PreparedClip, prepare_clip
from pipelines.preprocess.clip_to_row import make_row
from pipelines.preprocess.config import ClipConfig
from pipelines.preprocess.failure_budget import FailureBudget, FailureBudgetExceeded
from pipelines.preprocess.quality import ClipRejected, RejectReason
from pipelines.preprocess.stopwatch import Stopwatch

STOP = "stop.txt"  # written by a worker that gives up: the others see it and begin no further shard
_GROUP_BYTES = 1024 * 1024 * 1024  # of frames held for one call of a detector that looks at several clips at once


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker works: nothing here changes what comes out."""

    device: str = "cpu"
    weights: str | None = None
    """Folder or URL of the detector's weights, where they are not in their usual places."""
    limits: Limits = field(default_factory=Limits)
    failure_budget: float = 0.1
    """Share of a worker's clips that may fail before it gives up."""


@dataclass(frozen=True)
class ShardSpec:
    """Everything a worker needs to make one shard: its place and config, never clips or pixels."""

    root: str
    corpus: str
    """Folder that the sources' relative paths start from."""
    split: str
    shard: int
    config: ClipConfig
    config_sha256: str
    spec_sha256: str
    tools: WorkerOptions = field(default_factory=WorkerOptions)

    def finished(self) -> ShardReport | None:
        """The report when this very shard is done already."""
        try:
            report = read_report(storage.join(self.root, schema.report_name(self.split, self.shard)))
        except (FileNotFoundError, ValueError):
            return None
        same = (report.config_sha256, report.spec_sha256) == (self.config_sha256, self.spec_sha256)
        return report if same else None

    def clips(self) -> list[PlannedClip]:
        """The shard's clips, read from the plan. Raises ValueError when the plan is not the one this was made from."""
        clips = PlanFile(self.root).clips(self.shard)
        if schema.spec_digest(self.config_sha256, map(plan_row, clips)) != self.spec_sha256:
            raise ValueError(f"{self.root}: the plan of shard {self.shard} has changed since the run began")
        return clips


class ShardWorker:
    """Processes shards one after another with one detector and one decoder, made on first use."""

    def __init__(self) -> None:
        self._detectors: dict[tuple[str, str, str, str | None], LandmarkDetector] = {}
        self._decoder: Decoder | None = None
        self._budget: FailureBudget | None = None

    def __call__(self, spec: ShardSpec) -> ShardReport | None:
        """Make the shard, unless its report is there already: a bundle that is tried again costs nothing.

        Returns None when the run is to stop: too many clips failed, here or at another worker. An exception would be
        tried again by the engine, and stop nobody else.
        """
        if (report := spec.finished()) is not None:
            return report
        if storage.exists(storage.join(spec.root, STOP)):
            return None
        self._budget = self._budget or FailureBudget(spec.tools.failure_budget)
        try:
            return process_shard(spec, self.detector(spec), self.decoder(spec), self._budget)
        except FailureBudgetExceeded as error:
            storage.write_bytes(storage.join(spec.root, STOP), str(error).encode())
            return None

    def detector(self, spec: ShardSpec) -> LandmarkDetector:
        """The detector that the spec asks for."""
        wanted = (spec.config.detector, spec.config.detector_boxes, spec.tools.device, spec.tools.weights)
        if wanted not in self._detectors:
            name, boxes, device, weights = wanted
            self._detectors[wanted] = create_detector(name, boxes=boxes, device=device, weights=weights)
        return self._detectors[wanted]

    def decoder(self, spec: ShardSpec) -> Decoder:
        """The decoder, with the spec's limits."""
        self._decoder = self._decoder or Decoder(spec.tools.limits)
        return self._decoder

    def close(self) -> None:
        """End the decoder's process."""
        if self._decoder is not None:
            self._decoder.close()


def process_shard(
    spec: ShardSpec, detector: LandmarkDetector, decoder: Decoder, budget: FailureBudget | None = None
) -> ShardReport:
    """Process every clip of the shard and write it. Each clip ends as exactly one row, rejected or failed."""
    watch = Stopwatch()
    clips = spec.clips()
    rows: list[ClipRow] = []
    rejects: list[Reject] = []
    for outcome in process_clips(clips, spec.corpus, detector, decoder, spec.config, watch):
        if isinstance(outcome, Reject):
            rejects.append(outcome)
        else:
            rows.append(outcome)
        if budget is not None:
            budget.count(outcome if isinstance(outcome, Reject) else None)
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
    )


def process_clips(
    clips: list[PlannedClip],
    corpus: str,
    detector: LandmarkDetector,
    decoder: Decoder,
    config: ClipConfig,
    watch: Stopwatch,
) -> Iterator[ClipRow | Reject]:
    """The outcome of each clip, in order. As many clips as the detector likes are looked at together; which ones, the
    clips alone decide."""
    with contextlib.ExitStack() as files:
        group: list[PreparedClip | Reject] = []
        for clip in clips:
            group.append(_look(clip, corpus, decoder, config, watch, files))
            looked = [item for item in group if isinstance(item, PreparedClip)]
            held = sum(item.frames.num_held_bytes for item in looked)
            if len(looked) >= detector.clips_at_once or held > _GROUP_BYTES:
                yield from _finish(group, detector, decoder, config, watch)
                group = []
                files.close()
        yield from _finish(group, detector, decoder, config, watch)


def _look(
    clip: PlannedClip,
    corpus: str,
    decoder: Decoder,
    config: ClipConfig,
    watch: Stopwatch,
    files: contextlib.ExitStack,
) -> PreparedClip | Reject:
    if clip.duplicate_of is not None:
        return _reject(clip, ClipRejected(RejectReason.DUPLICATE, "plan", f"same content as {clip.duplicate_of}"))
    try:
        with watch("fetch"):
            path = files.enter_context(local_file(clip, corpus))
            box_text = storage.read_bytes(below(corpus, clip.boxes)) if clip.boxes else None
        return prepare_clip(clip, path, box_text.decode(errors="replace") if box_text else None, decoder, config, watch)
    except Exception as error:  # noqa: BLE001 - one poisonous clip must not cost the shard; it is a row with a reason
        return _reject(clip, error)


def _finish(
    group: list[PreparedClip | Reject],
    detector: LandmarkDetector,
    decoder: Decoder,
    config: ClipConfig,
    watch: Stopwatch,
) -> Iterator[ClipRow | Reject]:
    looked = [item for item in group if isinstance(item, PreparedClip)]
    faces = iter(_follow(looked, detector, watch))
    for item in group:
        if isinstance(item, Reject):
            yield item
            continue
        try:
            found = next(faces)
            if isinstance(found, Exception):
                raise found
            yield make_row(item, found, decoder, config, watch)
        except Exception as error:  # noqa: BLE001 - as in _look
            yield _reject(item.clip, error)


def _follow(
    looked: list[PreparedClip], detector: LandmarkDetector, watch: Stopwatch
) -> Sequence[Sequence[Sequence[Face]] | Exception]:
    """The faces of each clip's frames, or what went wrong. When a group fails, each of its clips is tried alone."""
    if not looked:
        return []
    try:
        with watch("detect"):
            return detector.follow([item.candidates for item in looked])
    except Exception as error:  # noqa: BLE001 - as in _look
        if len(looked) == 1:
            return [error]
        return [found for item in looked for found in _follow([item], detector, watch)]


def local_file(clip: PlannedClip, corpus: str) -> contextlib.AbstractContextManager[Path]:
    """The clip as a local file for the time of a `with` block; a member of a tar is read as a range of it.

    Raises:
        OSError: it cannot be read, or is not the size that was planned.
    """
    return _ranged(clip, corpus) if clip.offset is not None else _whole(clip, corpus)


@contextlib.contextmanager
def _whole(clip: PlannedClip, corpus: str) -> Iterator[Path]:
    with storage.local_copy(source_url(clip, corpus)) as path:
        size = path.stat().st_size
        if not path.is_file():  # to open a pipe would wait for whoever writes into it
            raise ClipRejected(RejectReason.UNREADABLE, "fetch", f"{clip.source} is not a regular file")
        if size != clip.num_bytes:
            raise OSError(f"it has {size} bytes, and had {clip.num_bytes} when the run was planned")
        yield path


@contextlib.contextmanager
def _ranged(clip: PlannedClip, corpus: str) -> Iterator[Path]:
    assert clip.offset is not None
    with tempfile.TemporaryDirectory(prefix="sfumato-") as folder:
        path = Path(folder) / f"member{PurePosixPath(clip.source).suffix}"
        path.write_bytes(storage.ranges([source_url(clip, corpus)], [clip.offset], [clip.num_bytes])[0])
        yield path


def _reject(clip: PlannedClip, error: Exception) -> Reject:
    reason, stage = _reason(error)
    message = " ".join(str(error).split())
    if isinstance(error, FileNotFoundError):
        message = "it is not there any more"
    elif isinstance(error, OSError) and error.strerror:
        message = error.strerror  # without the path: a row must not say where this machine keeps the file
    elif reason is RejectReason.INTERNAL:
        message = f"{type(error).__name__}: {message}"
    more = {"measures": error.measures} if isinstance(error, ClipRejected) else {}
    return Reject(
        clip.key, clip.source, stage, reason.status, str(reason), message[:500], reason.retryable, clip.attempt, **more
    )


def _reason(error: Exception) -> tuple[RejectReason, str]:
    if isinstance(error, ClipRejected):
        return error.reason, error.stage
    if isinstance(error, DecoderDied):
        return (RejectReason.TIMED_OUT if error.timed_out else RejectReason.CRASHED), "decode"
    if isinstance(error, OSError):
        return RejectReason.STORAGE, "fetch"
    return RejectReason.INTERNAL, "process"
