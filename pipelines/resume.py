"""plan.parquet: written when a data set is begun, compared when it is continued."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import schema, storage
from pipelines.plan import Plan
from pipelines.shards import MANIFEST

PLAN = "plan.parquet"


def write_plan(out: str, settings: Mapping[str, Any], plan: Plan) -> None:
    """Record which clip goes where, and the config, before any work begins."""
    rows = [
        {
            "identity": clip.source.key.identity,
            "video": clip.source.key.video,
            "clip": clip.source.key.clip,
            "source": clip.source.relative,
            "num_bytes": clip.source.num_bytes,
            "attempt": 1,
            "split": clip.split,
            "shard": clip.shard,
        }
        for clip in plan.clips
    ]
    metadata = {"sfumato_config": schema.canonical_json(settings), "sfumato_plan_sha256": plan.digest}
    table = pa.Table.from_pylist(rows, schema.PLAN_SCHEMA.with_metadata(metadata))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    storage.write_bytes(storage.join(out, PLAN), buffer.getvalue())


def check_resume(out: str, settings: Mapping[str, Any], plan: Plan) -> bool:
    """Whether OUT holds this very data set, begun or finished.

    Raises:
        ValueError: it holds another one; the message shows what differs.
    """
    url = storage.join(out, PLAN)
    if not storage.exists(url):
        if storage.exists(out) and not storage.is_folder(out):
            raise ValueError(f"{out} is a file; a data set is a folder")
        if storage.exists(storage.join(out, MANIFEST)):
            raise ValueError(f"{out} has a {MANIFEST} but no {PLAN}: it is no data set that can be continued")
        return False
    try:
        metadata = pq.read_schema(io.BytesIO(storage.read_bytes(url))).metadata or {}
        earlier = json.loads(metadata[b"sfumato_config"])
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{url} is not a plan of this program: {error}") from error
    now = json.loads(schema.canonical_json(settings))
    if earlier != now:
        changes = "; ".join(differences(earlier, now))
        raise ValueError(f"{out} was begun with another config: {changes}. Take the same flags or another OUT")
    if metadata[b"sfumato_plan_sha256"].decode() != plan.digest:
        raise ValueError(f"{out} was begun from other inputs: {_input_changes(url, plan)}. Take another OUT")
    return True


def differences(earlier: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """`clip.size 256 -> 128` for each value that differs, sections joined by dots."""
    lines: list[str] = []
    for key in sorted({*earlier, *now}):
        a, b = earlier.get(key), now.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key} {a} -> {b}")
    return lines


def _input_changes(url: str, plan: Plan) -> str:
    earlier = {
        (row["source"], row["num_bytes"]) for row in pq.read_table(io.BytesIO(storage.read_bytes(url))).to_pylist()
    }
    now = {(clip.source.relative, clip.source.num_bytes) for clip in plan.clips}
    new, gone = sorted(now - earlier), sorted(earlier - now)
    parts = [f"{len(new)} new or changed ({new[0][0]}, ...)"] if new else []
    parts += [f"{len(gone)} gone or changed ({gone[0][0]}, ...)"] if gone else []
    return ", ".join(parts) or "identities or splits changed"
