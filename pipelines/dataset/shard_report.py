"""The report of a shard, whose presence marks the shard as complete."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from pipelines import storage
from pipelines.dataset.manifest import ShardEntry


@dataclass(frozen=True)
class ShardReport:
    """Digests and counts of a finished shard. Its file is written last: it exists if and only if the shard is done."""

    split: str
    shard: int
    config_sha256: str
    spec_sha256: str
    """Digest of the config and the shard's rows of the plan: the shard counts as done only for these."""
    num_done: int
    num_rejected: int
    num_failed: int
    num_retried: int
    """Clips of this shard that failed in an earlier shard, which counts them too."""
    num_frames: int
    min_clip_frames: int
    """Fewest frames of any of its clips; 0 without clips."""
    num_bytes: int
    sha256: str
    index_sha256: str
    rejects_sha256: str
    codes: Mapping[str, int]
    seconds: Mapping[str, float]
    source_us: int = 0
    """Total duration of its clips in microseconds."""
    spread: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Number of frames by "yaw" and "pitch", of clips by "frames" kept: see `pipelines.dataset.pose_counts`."""

    @property
    def entry(self) -> ShardEntry:
        """The shard's entry in the manifest."""
        return ShardEntry(
            split=self.split,
            shard=self.shard,
            num_clips=self.num_done,
            num_frames=self.num_frames,
            num_bytes=self.num_bytes,
            sha256=self.sha256,
            index_sha256=self.index_sha256,
            rejects_sha256=self.rejects_sha256,
        )

    def to_json(self) -> str:
        """Return indented JSON with sorted keys."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"


def read_report(url: str) -> ShardReport:
    """Read a report. Raises FileNotFoundError, or ValueError when the file is not a report."""
    return parse_report(storage.read_bytes(url), url)


def parse_report(data: bytes, url: str) -> ShardReport:
    """Return the report that a file's contents are. Raises ValueError naming `url` when they are none."""
    try:
        return ShardReport(**json.loads(data))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{url} is not a shard report: {error}") from error


def sum_seconds(reports: Iterable[ShardReport]) -> dict[str, float]:
    """Return the seconds per stage, summed over all shards."""
    total: dict[str, float] = {}
    for report in reports:
        for stage, value in report.seconds.items():
            total[stage] = total.get(stage, 0.0) + value
    return {stage: round(value, 3) for stage, value in sorted(total.items())}
