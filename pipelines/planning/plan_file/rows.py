"""Rows of the plan: one for each input clip and attempt, as dictionaries and as `PlannedClip`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pipelines.dataset import schema
from pipelines.dataset.schema import ClipKey
from pipelines.planning.plan import PlannedClip

ClipNames = tuple[str, str, str]
"""Identity, video, clip."""


def plan_row(clip: PlannedClip) -> dict[str, Any]:
    """Return the clip as a row of `schema.PLAN_SCHEMA`."""
    row = asdict(clip)
    return {**row.pop("key"), **row}


def to_clip(row: Mapping[str, Any]) -> PlannedClip:
    """Return the clip of a row of `schema.PLAN_SCHEMA`."""
    more = {name: value for name, value in row.items() if name not in schema.KEY_COLUMNS}
    return PlannedClip(ClipKey(*names_of(row)), **more)


def names_of(row: Mapping[str, Any]) -> ClipNames:
    """Return the key columns of a row of the plan, an index or the rejects."""
    return row["identity"], row["video"], row["clip"]


def is_superseded(row: Mapping[str, Any], attempts: Mapping[ClipNames, int]) -> bool:
    """Whether a later shard retries this clip of the plan, so that its outcome there counts instead."""
    return bool(row["attempt"] < attempts.get(names_of(row), 1))
