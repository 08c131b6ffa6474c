"""The plan as it is stored: which clips there are, and which split and shard each belongs to."""

from pipelines.planning.plan_file.parts import ShardFacts, SmallPart, read_shard
from pipelines.planning.plan_file.reader import HEAD, PLAN, PlanFile, last_attempts, part_name, plan_exists
from pipelines.planning.plan_file.rows import ClipNames, is_superseded, names_of, plan_row, to_clip
from pipelines.planning.plan_file.writer import extend_plan, filter_plan, write_plan

__all__ = [
    "HEAD",
    "PLAN",
    "ClipNames",
    "PlanFile",
    "ShardFacts",
    "SmallPart",
    "extend_plan",
    "filter_plan",
    "is_superseded",
    "last_attempts",
    "names_of",
    "part_name",
    "plan_exists",
    "plan_row",
    "read_shard",
    "to_clip",
    "write_plan",
]
