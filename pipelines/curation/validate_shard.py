"""Validate one shard of a data set: compare its report, part, index and rejects with each other."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt8

from pipelines import storage
from pipelines.curation.findings import Finding, Note, reason_of
from pipelines.curation.validate_part import check_part
from pipelines.dataset import schema
from pipelines.dataset.manifest import ShardEntry
from pipelines.dataset.paths import HIVE, ShardPaths, shard_paths
from pipelines.dataset.shard_report import ShardReport, read_report
from pipelines.media.images import decode_jpeg
from pipelines.planning.plan_file import ClipNames, names_of

_THUMBNAIL_PX = 128


Planned = Sequence[Mapping[str, Any]] | None
"""A shard's rows of the plan; None if the plan cannot be read."""


@dataclass(frozen=True)
class Expectations:
    """The properties that every shard of a data set must have."""

    config_sha256: str
    size: int
    """Side of the crops in pixels."""
    decode: bool
    """Whether every JPEG is decoded."""
    retried: frozenset[ClipNames] = frozenset()
    """Clips with an outcome in several shards."""
    layout: str = HIVE

    def paths(self, entry: ShardEntry) -> ShardPaths:
        """Return the paths of a shard's files, relative to the root."""
        return shard_paths(entry.split, entry.shard, self.layout)


@dataclass(frozen=True)
class ShardResult:
    """The findings and counts of one shard."""

    findings: tuple[Finding, ...]
    complete: bool
    """Whether clips and rejects could be read; otherwise the counts below are meaningless."""
    statuses: Mapping[str, int]
    """Clips done, rejected and failed, according to the files."""
    codes: Mapping[str, int]
    num_frames: int
    min_clip_frames: int
    retried: Mapping[ClipNames, tuple[str, str]] = field(default_factory=dict)
    """(status, code) of the clips that have an outcome in other shards, too."""


def check_shard(root: str, entry: ShardEntry, planned: Planned, expect: Expectations) -> ShardResult:
    """Check one shard. `planned` are its rows of the plan; None if the plan cannot be read.

    A damaged, unreadable or missing file is a finding; nothing is raised for it.

    Raises:
        OSError: the storage as a whole fails.
    """
    findings: list[Finding] = []

    def note(file: str, what: str) -> None:
        findings.append(Finding(file, what))

    report = _check_report(root, entry, planned, expect, note)
    part = _check_files(root, entry, expect, note)
    rejects = _check_rejects(root, entry, expect, note)
    outcomes = dict.fromkeys(part or (), ("done", ""))
    twice = sorted({names_of(row) for row in rejects or ()} & set(outcomes))
    outcomes |= {names_of(row): (row["status"], row["code"]) for row in rejects or ()}
    if part is not None and rejects is not None:
        _check_outcomes(expect.paths(entry), planned, [*part, *map(names_of, rejects)], twice, note)
        _check_duplicates(expect.paths(entry).part, planned, outcomes, note)
    statuses = Counter(status for status, _ in outcomes.values())
    codes = Counter(code for _, code in outcomes.values() if code)
    lengths = list((part or {}).values())
    if report is not None and part is not None and rejects is not None:
        _check_counts(expect.paths(entry).report, report, planned, statuses, codes, lengths, note)
    return ShardResult(
        tuple(findings),
        part is not None and rejects is not None,
        statuses,
        codes,
        sum(lengths),
        min(lengths, default=0),
        {key: outcomes[key] for key in expect.retried & set(outcomes)},
    )


def _check_report(
    root: str, entry: ShardEntry, planned: Planned, expect: Expectations, note: Note
) -> ShardReport | None:
    name = expect.paths(entry).report
    try:
        report = read_report(storage.join(root, name))
    except (FileNotFoundError, NotADirectoryError):
        note(name, "is missing: the shard is not done")
        return None
    except (OSError, ValueError) as error:
        note(name, f"cannot be read: {reason_of(error)}")
        return None
    if report.config_sha256 != expect.config_sha256:
        note(name, f"made with config {report.config_sha256[:12]}, the data set has {expect.config_sha256[:12]}")
    if planned is not None and report.spec_sha256 != (spec := schema.spec_digest(expect.config_sha256, planned)):
        note(name, f"made for inputs {report.spec_sha256[:12]}, the plan gives it {spec[:12]}")
    for field_name in ShardEntry.__dataclass_fields__:
        said, listed = getattr(report.entry, field_name), getattr(entry, field_name)
        if said != listed:
            note(name, f"{field_name}: the report says {said!r}, dataset.json {listed!r}")
    return report


@contextlib.contextmanager
def _opened(root: str, name: str, sha256: str, note: Note) -> Iterator[Path | None]:
    """Provide a local copy of a file and compare its hash; None if it is missing or cannot be read."""
    with contextlib.ExitStack() as stack:
        path: Path | None = None
        try:
            path = stack.enter_context(storage.local_copy(storage.join(root, name)))
            with path.open("rb") as data:
                found = hashlib.file_digest(data, "sha256").hexdigest()
            if found != sha256:
                note(name, f"sha256: expected {sha256[:12]}, found {found[:12]}")
        except (FileNotFoundError, NotADirectoryError):
            path = None
            note(name, "is missing")
        except OSError as error:
            path = None
            note(name, f"cannot be read: {reason_of(error)}")
        yield path


def _check_files(root: str, entry: ShardEntry, expect: Expectations, note: Note) -> dict[ClipNames, int] | None:
    part_name, index_name = expect.paths(entry).part, expect.paths(entry).index
    with (
        _opened(root, part_name, entry.sha256, note) as part,
        _opened(root, index_name, entry.index_sha256, note) as index,
    ):
        table = _table(index_name, index, schema.INDEX_SCHEMA, note) if index else None
        if part is None:
            return None
        if part.stat().st_size != entry.num_bytes:
            note(part_name, f"size: expected {entry.num_bytes} bytes, found {part.stat().st_size}")
        file = _parquet(part_name, part, schema.CLIP_SCHEMA, note)
        if file is None:
            return None
        with file:
            try:
                return check_part(file, part, table, (part_name, index_name), expect.size, expect.decode, note)
            except (OSError, ValueError) as error:  # what pyarrow raises for damaged pages
                note(part_name, f"cannot be read: {reason_of(error)}")
                return None


def _check_rejects(root: str, entry: ShardEntry, expect: Expectations, note: Note) -> list[Mapping[str, Any]] | None:
    name = expect.paths(entry).rejects
    if not entry.rejects_sha256:
        return []  # if the file exists nevertheless, it is reported as stray
    with _opened(root, name, entry.rejects_sha256, note) as path:
        table = _table(name, path, schema.REJECT_SCHEMA, note) if path else None
    if table is None:
        return None
    rows: list[Mapping[str, Any]] = table.to_pylist()
    for row in rows:
        where = f"{'/'.join(names_of(row))}"
        if row["status"] not in ("rejected", "failed"):
            note(name, f"{where}: status: expected rejected or failed, found {row['status']!r}")
        if row["thumbnail"] is not None and expect.decode and (wrong := _thumbnail_fault(row["thumbnail"])):
            note(name, f"{where}: thumbnail: {wrong}")
    return rows


def _thumbnail_fault(data: bytes) -> str:
    try:
        image: UInt8[np.ndarray, "height width 3"] = decode_jpeg(data)
    except ValueError as error:
        return str(error)
    side = max(image.shape[:2])
    return "" if side <= _THUMBNAIL_PX else f"expected at most {_THUMBNAIL_PX} px, found {side}"


def _parquet(name: str, path: Path, expected: Any, note: Note) -> Any:
    """Open a Parquet file; return None, with a finding, if it is not one or has another schema."""
    try:
        file = pq.ParquetFile(path)
    except (OSError, ValueError) as error:
        note(name, f"is no Parquet file: {reason_of(error)}")
        return None
    found = file.schema_arrow
    wanted, version = ((kind.metadata or {}).get(b"sfumato_schema_version", b"none") for kind in (expected, found))
    if wanted != version:
        note(name, f"schema version: expected {wanted.decode()}, found {version.decode(errors='replace')}")
    if found.equals(expected):
        return file
    differing = [f.name for f in expected if f.name not in found.names or not found.field(f.name).equals(f)]
    extra = [column for column in found.names if column not in expected.names]
    note(name, f"schema: columns missing, other or extra: {', '.join([*differing, *extra]) or 'their order'}")
    file.close()
    return None


def _table(name: str, path: Path, expected: Any, note: Note) -> Any:
    file = _parquet(name, path, expected, note)
    if file is None:
        return None
    with file:
        try:
            return file.read()
        except (OSError, ValueError, pa.ArrowException) as error:
            note(name, f"cannot be read: {reason_of(error)}")
            return None


def _check_outcomes(
    paths: ShardPaths,
    planned: Planned,
    found: Sequence[ClipNames],
    twice: Sequence[ClipNames],
    note: Note,
) -> None:
    """Check that each planned clip has one outcome in its shard, and that the shard has no other clips."""
    part, rejects = paths.part, paths.rejects
    for key in twice:
        note(rejects, f"{'/'.join(key)} is in {part}, too")
    for key in sorted(key for key, number in Counter(found).items() if number > 1 and key not in twice):
        note(part, f"{'/'.join(key)} is in this shard more than once")
    if planned is None:
        return
    names = {names_of(row) for row in planned}
    for key in sorted(names - set(found)):
        note(part, f"{'/'.join(key)} is planned for this shard, but neither among its clips nor its rejects")
    for key in sorted(set(found) - names):
        note(part, f"{'/'.join(key)} is in this shard, but not planned for it")


def _check_duplicates(part: str, planned: Planned, outcomes: Mapping[ClipNames, tuple[str, str]], note: Note) -> None:
    for row in planned or ():
        code = outcomes.get(names_of(row), ("", "duplicate"))[1]
        if row["duplicate_of"] is not None and code != "duplicate":
            what = f"{'/'.join(names_of(row))} is planned as a duplicate of {row['duplicate_of']}, but was not refused"
            note(part, what)


def _check_counts(
    file: str,
    report: ShardReport,
    planned: Planned,
    statuses: Mapping[str, int],
    codes: Mapping[str, int],
    lengths: Sequence[int],
    note: Note,
) -> None:
    found = {
        "num_done": statuses.get("done", 0),
        "num_rejected": statuses.get("rejected", 0),
        "num_failed": statuses.get("failed", 0),
        "num_retried": report.num_retried if planned is None else sum(row["attempt"] > 1 for row in planned),
        "num_frames": sum(lengths),
        "min_clip_frames": min(lengths, default=0),
        "codes": dict(sorted(codes.items())),
    }
    for name, value in found.items():
        if (said := getattr(report, name)) != value:
            note(file, f"{name}: the report says {said}, the files have {value}")
