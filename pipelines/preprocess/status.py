"""How far a data set is, from the reports of its shards: while a run makes it, on any runner, and afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pipelines import storage
from pipelines.dataset.manifest import MANIFEST
from pipelines.planning.plan_file import PlanFile
from pipelines.preprocess.finalize import describe_rejects, summarize
from pipelines.preprocess.planned_shards import begun_reports
from pipelines.preprocess.run_record import LEASE, RunRecord, read_record
from pipelines.preprocess.shard_worker import STOP, WorkerOptions
from pipelines.storage.lease import Lease, holder


@dataclass(frozen=True)
class Status:
    """The state of a data set. Clips of unfinished shards count as planned, not as done."""

    num_shards: int
    shards_done: int
    num_clips: int
    """Clips to process, those that are retried included."""
    clips_processed: int
    done: int
    rejected: int
    failed: int
    codes: Mapping[str, int]
    """Reason -> clips without a row."""
    rejects: tuple[str, ...]
    """One line for each of some clips without a row."""
    is_complete: bool
    """Whether the manifest is written and no shard is to come."""
    holder: Lease | None
    record: RunRecord | None
    stopped: str
    """Why the run was stopped: too many clips failed; "" if it was not."""

    def notes(self, now: float) -> list[str]:
        """Return lines for people: who is at work, how fast, and which clips gave no row."""
        lines = []
        if self.record is not None and not self.is_complete:
            lines.append(f"begun {_utc(self.record.began)}, --runner {self.record.runner}")
            if self.record.job is not None:
                lines.append(f"Dataflow job {self.record.job.id}: {self.record.job.console}")
            lines += self._rate(self.record, now)
        if self.stopped:
            lines.append(f"the run was stopped: {self.stopped}")
        if self.holder is not None:
            lines.append(f"at work: {self.holder}")
        elif not self.is_complete and (self.record is None or self.record.job is None):
            lines.append("nobody is at work on it: run preprocess again to continue")
        if not self.is_complete and self.shards_done == self.num_shards:
            lines.append("all shards are made: preprocess --finish writes the manifest")
        if self.codes:
            reasons = ", ".join(f"{number} {code}" for code, number in sorted(self.codes.items()))
            lines.append(f"without a row: {reasons}")
        return [*lines, *self.rejects]

    def _rate(self, record: RunRecord, now: float) -> list[str]:
        made, seconds = self.clips_processed - record.clips_before, now - record.began
        if made <= 0 or seconds <= 0 or self.clips_processed == self.num_clips:
            return []
        left = timedelta(seconds=round((self.num_clips - self.clips_processed) * seconds / made))
        return [f"{made / seconds * 3600:,.0f} clips/h, {left} left at this rate"]


def read_status(root: str) -> Status:
    """Read the state of a data set.

    Raises:
        FileNotFoundError: `root` has no plan.
        ValueError: the plan or the record is damaged.
    """
    plan = PlanFile(root)
    summary = summarize(plan, plan.corpus, WorkerOptions())
    shards, reports = summary.shards, begun_reports(summary.shards)
    done = {report.shard for report in reports}
    codes = Counter[str]()
    for report in reports:
        codes.update(report.codes)
    stop = storage.join(root, STOP)
    return Status(
        num_shards=len(shards),
        shards_done=len(reports),
        num_clips=sum(shard.num_clips for shard in shards),
        clips_processed=sum(shard.num_clips for shard in shards if shard.spec.shard in done),
        done=sum(report.num_done for report in reports),
        rejected=sum(report.num_rejected for report in reports),
        failed=sum(report.num_failed for report in reports) - sum(report.num_retried for report in reports),
        codes=codes,
        rejects=tuple(describe_rejects(root, summary, reports)),
        is_complete=len(reports) == len(shards) and storage.exists(storage.join(root, MANIFEST)),
        holder=holder(root, LEASE),
        record=read_record(root),
        stopped=storage.read_bytes(stop).decode() if storage.exists(stop) else "",
    )


def _utc(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
