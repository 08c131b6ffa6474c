"""The report beside each shard, which says that the shard is complete."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from pipelines import storage
from pipelines.dataset.manifest import ShardEntry


@dataclass(frozen=True)
class ShardReport:
    """What a finished shard says of itself. Its file is written last: it exists if and only if the shard is done."""

    split: str
    shard: int
    config_sha256: str
    spec_sha256: str
    """Of the config and the shard's rows in the plan: a shard is done for these inputs and this config only."""
    num_done: int
    num_rejected: int
    num_failed: int
    num_retried: int
    """Clips of this shard that failed in an earlier one, where they are counted too."""
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
    """Length of the clips it holds, as films."""
    spread: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Frames by "yaw" and "pitch", clips by "frames" kept: see `pipelines.dataset.pose_counts`."""

    @property
    def entry(self) -> ShardEntry:
        """The shard's line in the manifest."""
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
        """Readable JSON, keys sorted."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"


def read_report(url: str) -> ShardReport:
    """Raises FileNotFoundError, or ValueError when the file is no report."""
    try:
        return ShardReport(**json.loads(storage.read_bytes(url)))
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{url} is not a shard report: {error}") from error


def sum_seconds(reports: Iterable[ShardReport]) -> dict[str, float]:
    """Seconds per stage over all shards."""
    total: dict[str, float] = {}
    for report in reports:
        for stage, value in report.seconds.items():
            total[stage] = total.get(stage, 0.0) + value
    return {stage: round(value, 3) for stage, value in sorted(total.items())}
