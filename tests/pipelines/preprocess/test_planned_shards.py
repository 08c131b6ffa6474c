"""The work of a plan: which shards are to make, in which order, and how little of the store is read for it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pipelines import storage
from pipelines.dataset.schema import ClipKey
from pipelines.dataset.shard_writer import write_shard
from pipelines.planning.plan import PlannedClip
from pipelines.planning.plan_file import PlanFile, write_plan
from pipelines.preprocess.config import ClipConfig
from pipelines.preprocess.planned_shards import PlannedShard, PlanReference, begun_reports, planned_shards, unfinished
from pipelines.preprocess.shard_worker import WorkerOptions

SETTINGS = {"file_layout": "hive", "clip": asdict(ClipConfig(size=32))}


@pytest.fixture
def root() -> Iterator[str]:
    name = uuid.uuid4().hex
    yield f"memory://{name}"
    fsspec.filesystem("memory").rm(f"/{name}", recursive=True)


def plan(root: str, sizes: list[int]) -> list[PlannedShard]:
    """The shards of a plan with one clip each, of these bytes."""
    clips = [
        PlannedClip(ClipKey(f"p{shard}", "v", "a"), f"{shard}.mp4", num_bytes, "train", shard)
        for shard, num_bytes in enumerate(sizes)
    ]
    write_plan(root, SETTINGS, "/films", [[clip] for clip in clips])
    return planned_shards(PlanFile(root), "/films", WorkerOptions())


def make(shard: PlannedShard, make_row: Callable[..., Any], **changes: str) -> None:
    (clip,), spec = shard.spec.clips(), shard.spec
    digests = {"config_sha256": spec.config_sha256, "spec_sha256": spec.spec_sha256, **changes}
    row = make_row(clip.key.identity, clip.key.video, clip.key.clip)
    write_shard(spec.root, spec.split, spec.shard, [row], [], seconds={}, **digests)


def test_the_largest_shards_are_made_first_so_that_the_last_wave_is_short(root: str) -> None:
    shards = plan(root, [10, 40, 20, 40])
    assert [shard.spec.shard for shard in unfinished(shards)] == [1, 3, 2, 0]
    listed = PlanReference(root, "/films", WorkerOptions()).unfinished()
    assert [shard.spec.shard for shard in listed] == [1, 3, 2, 0]


def test_shards_that_are_done_are_left_out_and_those_of_other_inputs_are_not(
    root: str, make_row: Callable[..., Any]
) -> None:
    shards = plan(root, [10, 20, 30])
    make(shards[0], make_row)
    make(shards[1], make_row, spec_sha256="of other clips")
    storage.write_bytes(storage.join(root, shards[2].spec.paths.report), b"half a rep")
    assert [report.shard for report in begun_reports(shards)] == [0]
    assert [shard.spec.shard for shard in unfinished(shards)] == [2, 1]


def test_11_a_shard_reads_its_own_part_of_the_plan_and_nothing_else(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = plan(root, [10] * 70)
    memory, read = type(fsspec.filesystem("memory")), list[str]()
    for name in ("cat_file", "_open"):
        method = getattr(memory, name)

        def counted(self: Any, path: str, *more: Any, method: Any = method, **others: Any) -> Any:
            read.append(Path(path).name)
            return method(self, path, *more, **others)

        monkeypatch.setattr(memory, name, counted)
    assert [clip.source for clip in shards[40].spec.clips()] == ["40.mp4"]
    assert set(read) == {"part-00001.parquet"}


def test_a_plan_that_has_changed_since_the_run_began_is_refused(root: str) -> None:
    (shard, *_) = plan(root, [10, 20])
    plan(root, [11, 20])
    with pytest.raises(ValueError, match="the plan of shard 0 has changed since the run began"):
        shard.spec.clips()
