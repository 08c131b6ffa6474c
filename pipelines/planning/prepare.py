"""Begin or continue a data set: plan new clips, keep the earlier plan, and refuse other settings or inputs."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pipelines import assets, storage
from pipelines.cli import progress
from pipelines.config_diff import differences
from pipelines.dataset import schema
from pipelines.dataset.forgotten_log import hash_of, read_log
from pipelines.planning.corpus_files import corpus_root
from pipelines.planning.layouts import LayoutName
from pipelines.planning.plan import Changes, PlanConfig, PlannedClip, source_url
from pipelines.planning.plan_file import PlanFile, extend_plan, plan_exists, write_plan
from pipelines.planning.planner import Fingerprints, Planner
from pipelines.planning.sources import Listing, find_sources
from pipelines.planning.splits import TestList, published_test_identities, read_test_list

_END_BYTES = 16 * 1024  # read at the beginning and the end; files of equal size that agree in both are read whole
_BLOCK_BYTES = 8 * 1024 * 1024
_FILES_AT_ONCE = 16  # in one call of a store's library, whose own work for a call is as much as for a request
_READS = 64  # calls at once in a store: one at a time, those of a million clips would take a day
_MANY = 20  # films, from which on it is unlikely that each shows another person
_SHOWN = 20  # names that an error lists
_YUNET = assets.find("yunet").file


@dataclass(frozen=True)
class PlanRequest:
    """The inputs and settings of a run of `preprocess`."""

    src: str
    out: str
    layout: LayoutName
    settings: Mapping[str, Any]
    plan: PlanConfig
    test_list: str | None = None
    add: bool = False
    """Whether `src` may be another corpus than the one `out` was begun from."""
    identity_from: str | None = None
    """Regular expression for identities in the paths of films; see `find_sources`."""


@dataclass(frozen=True)
class Prepared:
    """A plan that is written and ready to run, and how it changed."""

    plan: PlanFile
    changes: Changes
    num_duplicates: int
    listing_notes: tuple[str, ...] = ()
    """What the listing held and how its films are named, and warnings about it."""

    def notes(self) -> list[str]:
        """Return notes for the user: the listing; new, missing, forgotten and duplicate clips."""
        changes = self.changes
        notes = [*self.listing_notes]
        if changes.num_known and changes.num_new:
            notes.append(f"{changes.num_new} new clips were added to the {changes.num_known} planned before")
        if changes.num_gone:
            notes.append(
                f"{changes.num_gone} planned clips are not in the source any more; what was made of them stays"
            )
        if changes.num_forgotten:
            notes.append(f"{changes.num_forgotten} clips of people who were taken out of the data set are left out")
        if self.num_duplicates:
            notes.append(f"{self.num_duplicates} clips have the same content as another one and are rejected unread")
        return notes


def prepare(request: PlanRequest) -> Prepared:
    """Compare the listing of `src` with the plan in `out`, and write a plan if there are new clips.

    Raises:
        FileNotFoundError, ValueError: as `find_sources`.
        ValueError: `out` was begun with another config or from another corpus.
    """
    earlier = PlanFile(request.out) if plan_exists(request.out) else None
    if earlier is not None:
        check_settings(earlier, request.settings)
    corpus = storage.absolute(corpus_root(request.src))
    test_list = read_test_list(request.test_list) if request.test_list is not None else None
    held_out = published_test_identities() | (test_list.names if test_list is not None else frozenset())
    listing = find_sources(request.src, request.layout, request.identity_from)
    with Planner(request.plan, test_identities=held_out) as planner, progress() as bars:
        task = bars.add_task("planning", total=None)
        if earlier is not None:
            planner.load_previous(itertools.chain.from_iterable(earlier.all_clips()))
        planner.add(bars.track(listing, task_id=task))
        forgotten = frozenset(line.identity_sha256 for line in read_log(request.out))
        changes = planner.compare(forgotten)
        _check_corpus(request, changes)
        _check_test_list(planner, test_list, forgotten)
        notes = _listing_notes(listing, changes)
        if earlier is not None and not changes.num_new:
            return Prepared(earlier, changes, 0, notes)
        num_duplicates = planner.find_duplicates(content_fingerprints(corpus))
        shards: Iterable[list[PlannedClip]] = planner.shards(earlier.num_shards if earlier else 0)
        if earlier is None:
            write_plan(request.out, request.settings, corpus, shards)
        else:
            if corpus != earlier.corpus:
                shards = ([_located(clip, corpus) for clip in clips] for clips in shards)
            extend_plan(earlier, shards)
    return Prepared(PlanFile(request.out), changes, num_duplicates, notes)


def _listing_notes(listing: Listing, changes: Changes) -> tuple[str, ...]:
    films, people = changes.num_films, changes.num_identities
    counts = f"{films:,} film{'s' * (films != 1)}, {people:,} {'identity' if people == 1 else 'identities'}"
    line = f"{counts} (from {listing.identities_from}), layout {listing.layout}"
    warnings = []
    if films == people > _MANY:
        warnings.append(
            f"warning: each of the {films:,} films counts as another person. If a person is in several of them, say so "
            "with --layout, --identity-from or a manifest: otherwise people stand in training and test at once"
        )
    return (line, *warnings, *listing.notes)


def _check_test_list(planner: Planner, test_list: TestList | None, forgotten: frozenset[str]) -> None:
    """Raise ValueError that lists the names of the test list without a film; those of forgotten people are none."""
    if test_list is None:
        return
    unknown = [name for name in planner.without_films(test_list.names) if hash_of(name) not in forgotten]
    if not unknown or (test_list.is_table and len(unknown) < len(test_list.names)):
        return
    more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
    raise ValueError(
        f"{test_list.url}: {len(unknown)} of its {len(test_list.names)} names are no identity of the films: "
        f"{', '.join(unknown[:_SHOWN])}{more}"
    )


def check_settings(earlier: PlanFile, settings: Mapping[str, Any]) -> None:
    """Raise ValueError that lists the differences, if `settings` are not those that the data set was begun with.

    A data set that was begun before there was a second look is continued without one, and one of the earlier layout in
    that layout.
    """
    settings = _as_begun(earlier.config, settings)
    if schema.canonical_json(earlier.config) != schema.canonical_json(settings):
        changes = "; ".join(differences(earlier.config, settings))
        raise ValueError(f"{earlier.root} was begun with another config: {changes}. Take the same flags or another OUT")


def _as_begun(earlier: Mapping[str, Any], settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings without the second look, its weights and the layout, if the earlier ones know none."""
    if "file_layout" not in earlier:
        settings = {name: value for name, value in settings.items() if name != "file_layout"}
    clip, then = settings.get("clip", {}), earlier.get("clip", {})
    if "second_look" not in clip or "second_look" in then:
        return settings
    known = earlier.get("weights", {})
    weights = {name: digest for name, digest in settings.get("weights", {}).items() if name in known or name != _YUNET}
    return {**settings, "clip": {name: clip[name] for name in clip if name != "second_look"}, "weights": weights}


def _check_corpus(request: PlanRequest, changes: Changes) -> None:
    if changes.changed:
        more = "" if len(changes.changed) == 1 else f" and {len(changes.changed) - 1} or more others"
        raise ValueError(
            f"{request.out} was begun from other inputs: {changes.changed[0]}{more} changed since. Take another OUT"
        )
    if changes.num_gone and not changes.num_known and not request.add:
        raise ValueError(
            f"{request.out} was begun from other inputs: none of its {changes.num_gone} clips is in {request.src}. "
            "Take another OUT, or --add to put both into one data set"
        )


def _located(clip: PlannedClip, corpus: str) -> PlannedClip:
    boxes = storage.join(corpus, clip.boxes) if clip.boxes is not None else None
    return replace(clip, location=source_url(clip, corpus), boxes=boxes)


def content_fingerprints(corpus: str) -> Fingerprints:
    """Return a function that hashes the content of clips below `corpus`, many at once where they lie in a store.

    A clip that cannot be read has a unique fingerprint here, and fails when it is processed.
    """

    def fingerprints(clips: Sequence[PlannedClip], whole: bool) -> Iterable[str]:
        read = partial(_fingerprint, corpus, whole)
        if not any("://" in source_url(clip, corpus) for clip in clips):  # a disk gains nothing by threads
            return map(read, clips)
        with ThreadPoolExecutor(_READS) as pool:
            if whole:
                return [*pool.map(read, clips)]
            groups = [clips[first : first + _FILES_AT_ONCE] for first in range(0, len(clips), _FILES_AT_ONCE)]
            return [*itertools.chain.from_iterable(pool.map(partial(_fingerprints_of_ends, corpus), groups))]

    return fingerprints


def _fingerprints_of_ends(corpus: str, clips: Sequence[PlannedClip]) -> Sequence[str]:
    """Return what `_fingerprint` returns of each clip's two ends; those of one store are read in one call."""
    urls = [source_url(clip, corpus) for clip in clips]
    if len({url.partition("://")[0] for url in urls}) > 1 or urls[0].startswith("http"):
        return [_fingerprint(corpus, False, clip) for clip in clips]
    ranges = [
        (url, clip.offset or 0, span) for url, clip in zip(urls, clips, strict=True) for span in _ends(clip.num_bytes)
    ]
    try:
        parts = storage.ranges(
            [url for url, _, _ in ranges],
            [start + offset for _, start, (offset, _) in ranges],
            [length for _, _, (_, length) in ranges],
        )
    except OSError:  # which of them cannot be read shows when each is read alone
        return [_fingerprint(corpus, False, clip) for clip in clips]
    return [hashlib.sha256(parts[at] + parts[at + 1]).hexdigest() for at in range(0, len(parts), 2)]


def _fingerprint(corpus: str, whole: bool, clip: PlannedClip) -> str:
    url, start = source_url(clip, corpus), clip.offset or 0
    try:
        digest = hashlib.sha256()
        for spans in _spans(clip.num_bytes, whole):
            starts, lengths = zip(*((start + offset, length) for offset, length in spans), strict=True)
            for part in storage.ranges([url] * len(spans), starts, lengths):
                digest.update(part)
        return digest.hexdigest()
    except OSError:
        return f"unreadable {clip.key}"


def _ends(num_bytes: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return (offset, length) of a file's two ends."""
    length = min(_END_BYTES, num_bytes)
    return (0, length), (max(0, num_bytes - _END_BYTES), length)


def _spans(num_bytes: int, whole: bool) -> Iterator[Sequence[tuple[int, int]]]:
    """Yield what is read at a time, as (offset, length): a file's two ends, or all of it block by block."""
    if not whole:
        yield _ends(num_bytes)
        return
    for offset in range(0, num_bytes, _BLOCK_BYTES):
        yield ((offset, min(_BLOCK_BYTES, num_bytes - offset)),)
