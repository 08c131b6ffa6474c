"""Validate a data set: each shard by itself, and all of them against the plan and the manifest."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pipelines import storage
from pipelines.curation.findings import Finding
from pipelines.curation.validate_shard import Expectations, ShardResult, check_shard
from pipelines.dataset import forgotten_log, schema
from pipelines.dataset.manifest import MANIFEST, DatasetManifest, ShardEntry, read_manifest
from pipelines.dataset.schema import SPLITS
from pipelines.planning.plan_file import HEAD, PLAN, ClipNames, PlanFile, last_attempts, names_of, part_name
from pipelines.preprocess.run_record import LEASE, RECORD

CARD = "README.md"
_AHEAD = 2  # shards submitted per worker before the oldest result is taken


@dataclass(frozen=True)
class Validation:
    """The result of a validation. `notes` are not faults."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    num_shards: int
    num_clips: int
    num_frames: int


@dataclass(frozen=True)
class _Planned:
    """What the plan says about all shards together."""

    splits: Mapping[str, str] = field(default_factory=dict)
    """Identity -> split."""
    retried: Mapping[ClipNames, Mapping[int, int]] = field(default_factory=dict)
    """Retried clip -> attempt -> shard."""


@dataclass
class _Totals:
    """Sums over the shards' files."""

    complete: bool = True
    statuses: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    num_frames: int = 0
    min_clip_frames: int | None = None
    retried: dict[ClipNames, dict[int, tuple[str, str]]] = field(default_factory=dict)
    """Retried clip -> shard -> (status, code)."""

    def add(self, shard: int, result: ShardResult) -> None:
        self.complete &= result.complete
        self.statuses.update(result.statuses)
        self.codes.update(result.codes)
        self.num_frames += result.num_frames
        if result.statuses.get("done"):
            self.min_clip_frames = min(result.min_clip_frames, self.min_clip_frames or result.min_clip_frames)
        for key, outcome in result.retried.items():
            self.retried.setdefault(key, {})[shard] = outcome


def validate(
    root: str, *, quick: bool = False, workers: int = 1, advance: Callable[[int, int], None] | None = None
) -> Validation:
    """Reopen every file of the data set at `root` and check its contents.

    Args:
        quick: do not decode the images; their checksums are still compared.
        workers: shards checked at once, each in a thread.
        advance: called with the number of checked shards and their total.

    Raises:
        FileNotFoundError: there is nothing at `root`.
        ValueError: it is not a data set, or has another schema version.
    """
    if not storage.exists(root):
        raise FileNotFoundError(f"{root} does not exist")
    manifest = read_manifest(root)
    findings = _check_entries(root, manifest)
    plan, planned = _open_plan(root, manifest, findings)
    expect = Expectations(manifest.config_sha256, manifest.size, not quick, frozenset(planned.retried), manifest.layout)
    totals = _Totals()
    for number, (entry, result) in enumerate(_check_shards(root, manifest, plan, expect, workers), 1):
        findings += result.findings
        totals.add(entry.shard, result)
        if advance:
            advance(number, len(manifest.shards))
    findings += _discard_superseded(planned, totals)
    if totals.complete and plan is not None:  # with a file missing, every sum would be one more finding
        findings += _check_manifest(manifest, planned, totals)
    findings += _check_forgotten(root, planned)
    stray, notes = _find_stray_files(root, manifest, len(plan.parts) if plan is not None else 0)
    return Validation((*findings, *stray), notes, len(manifest.shards), totals.statuses["done"], totals.num_frames)


def _check_entries(root: str, manifest: DatasetManifest) -> list[Finding]:
    """Check the manifest's entries that are needed to find its shards."""
    try:
        int(manifest.config["clip"]["size"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{storage.join(root, MANIFEST)}: its config says no size of the crops") from error
    what = "shard {0.shard}: unknown split {0.split!r}; it was not checked"
    return [Finding(MANIFEST, what.format(entry)) for entry in manifest.shards if entry.split not in SPLITS]


def _open_plan(root: str, manifest: DatasetManifest, findings: list[Finding]) -> tuple[PlanFile | None, _Planned]:
    try:
        plan = PlanFile(root)
        return plan, _check_plan(plan, manifest, findings)
    except FileNotFoundError:
        findings.append(Finding(PLAN, "is missing"))
    except (OSError, ValueError) as error:
        findings.append(Finding(PLAN, str(error)))
    return None, _Planned()


def _check_plan(plan: PlanFile, manifest: DatasetManifest, findings: list[Finding]) -> _Planned:
    """Check the plan's consistency, and compare it with the manifest, one shard in memory at a time."""

    def note(what: str) -> None:
        findings.append(Finding(PLAN, what))

    splits: dict[str, str] = {}
    retried: dict[ClipNames, dict[int, int]] = {key: {} for key in last_attempts(plan)}
    seen: set[int] = set()
    specs: list[str] = []
    places = {entry.shard: entry.split for entry in manifest.shards}
    for shard, rows in plan.shards():
        specs.append(schema.spec_digest(manifest.config_sha256, rows))
        if shard not in places:
            note(f"shard {shard} is planned, but {MANIFEST} does not list it")
        for row in rows:
            key, split = names_of(row), places.get(shard, row["split"])
            name = "/".join(key)
            if (row["shard"], row["split"]) != (shard, split):
                note(f"{name}: expected {split} shard {shard}, found {row['split']} shard {row['shard']}")
            earlier = splits.setdefault(row["identity"], row["split"])
            if earlier != row["split"]:
                note(f"identity {row['identity']} is in two splits, {earlier} and {row['split']} ({name})")
            if key in retried:
                if row["attempt"] in retried[key]:
                    note(f"{name} is planned twice as attempt {row['attempt']}")
                retried[key][row["attempt"]] = shard
            elif hash(key) in seen:
                note(f"{name} is planned twice")
            seen.add(hash(key))  # 64 bits instead of the strings: a plan may have millions of rows
    _check_digests(plan, manifest, specs, findings)
    return _Planned(splits, retried)


def _check_digests(plan: PlanFile, manifest: DatasetManifest, specs: list[str], findings: list[Finding]) -> None:
    numbers = sorted(entry.shard for entry in manifest.shards)
    if numbers != list(range(plan.num_shards)):
        what = f"lists {len(numbers)} shards, the plan has {plan.num_shards}, numbered from 0"
        findings.append(Finding(MANIFEST, f"shards: {what}"))
    if plan.config != manifest.config:
        findings.append(Finding(PLAN, f"was written with another config than {MANIFEST}'s"))
    for what, said, found in (
        ("config_sha256", manifest.config_sha256, schema.digest_of(manifest.config)),
        ("plan_sha256", manifest.plan_sha256, schema.plan_digest(specs)),
    ):
        if said != found:
            findings.append(Finding(MANIFEST, f"{what}: expected {found[:12]}, found {said[:12]}"))


def _check_shards(
    root: str, manifest: DatasetManifest, plan: PlanFile | None, expect: Expectations, workers: int
) -> Iterator[tuple[ShardEntry, ShardResult]]:
    """Check shards in threads, and yield their results in the manifest's order, with few in memory."""

    def check(entry: ShardEntry) -> ShardResult:
        rows: list[dict[str, Any]] = []
        if plan is not None and entry.shard < plan.num_shards:
            rows = plan.rows(entry.shard)
        return check_shard(root, entry, rows if plan is not None else None, expect)

    with ThreadPoolExecutor(workers) as pool:
        begun: list[tuple[ShardEntry, Future[ShardResult]]] = []
        try:
            for entry in (entry for entry in manifest.shards if entry.split in SPLITS):
                begun.append((entry, pool.submit(check, entry)))
                if len(begun) > _AHEAD * workers:
                    first, future = begun.pop(0)
                    yield first, future.result()
            for first, future in begun:
                yield first, future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _discard_superseded(planned: _Planned, totals: _Totals) -> Iterator[Finding]:
    """Subtract outcomes that a later attempt replaces from the totals; each of them must have failed."""
    for key, shards in planned.retried.items():
        outcomes = totals.retried.get(key, {})
        for attempt in sorted(shards)[:-1]:
            status, code = outcomes.get(shards[attempt], ("", ""))
            if not status:
                continue  # already reported by the shard's own check
            totals.statuses[status] -= 1
            totals.codes[code] -= 1
            if status != "failed":
                what = f"{'/'.join(key)} was {status} in shard {shards[attempt]}, yet planned again"
                yield Finding(PLAN, what)


def _check_manifest(manifest: DatasetManifest, planned: _Planned, totals: _Totals) -> Iterator[Finding]:
    found: dict[str, int] = {status: totals.statuses[status] for status in ("done", "rejected", "failed")}
    found["frames"] = totals.num_frames
    found["inputs"] = sum(totals.statuses.values())
    found["identities"] = len(planned.splits)
    for name, value in found.items():
        if name in manifest.counts and manifest.counts[name] != value:
            yield Finding(MANIFEST, f"counts.{name}: expected {value}, found {manifest.counts[name]}")
    codes = {code: number for code, number in sorted(totals.codes.items()) if code and number}
    if dict(manifest.codes) != codes:
        yield Finding(MANIFEST, f"codes: expected {codes}, found {dict(manifest.codes)}")
    shots = max(0, (totals.min_clip_frames or 0) - 1)
    if manifest.episode_k_max != shots:
        yield Finding(MANIFEST, f"episode_k_max: expected {shots}, found {manifest.episode_k_max}")


def _check_forgotten(root: str, planned: _Planned) -> Iterator[Finding]:
    try:
        hashes = {entry.identity_sha256 for entry in forgotten_log.read_log(root)}
    except (OSError, ValueError) as error:
        yield Finding(forgotten_log.LOG, str(error))
        return
    for identity in sorted(planned.splits) if hashes else ():
        if forgotten_log.hash_of(identity) in hashes:
            yield Finding(PLAN, f"identity {identity} was to be forgotten, but is still here: forget it again")


def _find_stray_files(root: str, manifest: DatasetManifest, num_parts: int) -> tuple[list[Finding], tuple[str, ...]]:
    """Find files that do not belong to the data set; those left by an interrupted write are only notes."""
    owned = {MANIFEST, CARD, PLAN, HEAD, forgotten_log.LOG, RECORD, LEASE.file}
    owned |= {part_name(number) for number in range(num_parts)}
    for entry in manifest.shards:
        paths = manifest.paths(entry)
        owned |= {paths.part, paths.index, paths.report}
        owned |= {paths.rejects} if entry.rejects_sha256 else set()
    there = [storage.relative(url, root) for url in storage.list(root)]
    stray = [name for name in there if name not in owned]
    left = [name for name in stray if posixpath.basename(name).startswith(".partial-")]
    findings = [Finding(name, "no shard owns this file") for name in stray if name not in left]
    if CARD not in there:
        findings.append(Finding(CARD, "is missing"))
    return findings, tuple(str(Finding(name, "left by an interrupted write, can be removed")) for name in left)
