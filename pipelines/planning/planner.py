"""Assign every clip to a split and a shard. The same listing and config give the same plan on any machine.

Clips are sorted, joined and cut in a temporary SQLite file, so that memory does not grow with the corpus (millions of
clips). When a corpus has grown, new shards are added after those of the earlier plan, which stay as they are.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pipelines import storage
from pipelines.dataset.forgotten_log import hash_of
from pipelines.dataset.schema import SPLITS, ClipKey, key_name
from pipelines.planning import planner_sql as sql
from pipelines.planning.plan import Changes, PlanConfig, PlannedClip, cut_into_shards
from pipelines.planning.sources import BoxFile, Source, nfc

Fingerprints = Callable[[Sequence[PlannedClip], bool], Iterable[str]]
"""(clips, whole) -> hash of the content of each: of its two ends, or with `whole` of all of it."""
_BATCH = 1024  # clips whose content is read at a time


class Planner:
    """Collects a listing and cuts it into shards. A context manager, which removes its temporary file.

    Call in this order: `add` the listing, `load_previous` the earlier plan, `compare`, `find_duplicates`, `shards`.
    """

    def __init__(self, config: PlanConfig, *, test_identities: frozenset[str] = frozenset()) -> None:
        self._config, self._test_identities = config, frozenset(key_name(nfc(name)) for name in test_identities)
        self._folder = storage.ScratchFolder()
        self._database = sqlite3.connect(Path(self._folder.name) / "plan.db", isolation_level=None)
        self._database.row_factory = sqlite3.Row
        self._define("is_held_out", 1, self._is_held_out)
        self._define("video_hash", 2, lambda identity, video: _hash(f"{identity}/{video}"))
        # A temporary file does not have to survive a crash, and its pages need not stay in memory.
        for setting in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-16384", "temp_store=FILE"):
            self._database.execute(f"PRAGMA {setting}")
        self._database.execute(f"PRAGMA temp_store_directory='{self._folder.name}'")
        self._database.executescript(sql.TABLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._database.close()
        self._folder.cleanup()

    def add(self, found: Iterable[Source | BoxFile]) -> None:
        """Store the listing."""
        self._database.execute("BEGIN")
        for item in found:
            key = _key_columns(item.key)
            if isinstance(item, BoxFile):
                self._database.execute(sql.INSERT_BOX_FILE, {**key, "boxes": item.relative})
                continue
            row = {
                "source": item.relative,
                "location": item.location,
                "offset": item.offset,
                "num_bytes": item.num_bytes,
                "checksum": item.checksum,
                "split": item.split,
                "fallback": item.fallback,
            }
            self._database.execute(sql.INSERT_FOUND, {**key, **row})
        self._database.execute("COMMIT")

    def load_previous(self, planned: Iterable[PlannedClip]) -> None:
        """Store the rows of an earlier plan."""
        self._database.execute("BEGIN")
        rows = (
            {
                **_key_columns(clip.key),
                "source": clip.source,
                "boxes": clip.boxes,
                "num_bytes": clip.num_bytes,
                "split": clip.split,
            }
            for clip in planned
            if clip.attempt == 1
        )
        self._database.executemany(sql.INSERT_PLANNED, rows)
        self._database.execute("COMMIT")
        self._database.executescript(sql.INDEX_PLANNED)

    def compare(self, forgotten: frozenset[str] = frozenset()) -> Changes:
        """Name the clips, match them with the earlier plan, and assign identities to splits.

        Args:
            forgotten: sha256 digests of identities that were removed from the data set.

        Raises:
            ValueError: two clips have the same key, or one identity is in two splits.
        """
        self._database.executescript(sql.NAME_FLAT_VIDEOS)
        listed = self._database.execute(sql.COUNT_LISTED).fetchone()
        self._database.executescript(sql.JOIN_BOXES)
        num_forgotten = self._exclude(forgotten)
        self._database.execute(sql.MARK_KNOWN)
        self._check_unique()
        changed = tuple(str(row["source"]) for row in self._database.execute(sql.CHANGED_SOURCES))
        num_gone = self._count(sql.COUNT_MISSING)
        self._assign_splits()
        return Changes(
            num_new=self._count(sql.COUNT_NEW),
            num_known=self._count(sql.COUNT_KNOWN),
            num_gone=num_gone,
            num_forgotten=num_forgotten,
            changed=changed,
            num_films=listed["films"],
            num_identities=listed["identities"],
        )

    def without_films(self, names: Iterable[str]) -> list[str]:
        """Return those of the names, sorted, that no identity of the listing or the earlier plan has."""
        listed = {nfc(row["identity"]) for row in self._database.execute(sql.LISTED_IDENTITIES)}
        return sorted(name for name in names if key_name(nfc(name)) not in listed)

    def _define(self, name: str, num_args: int, function: Callable[..., str | int]) -> None:
        """Make a deterministic Python function callable from SQL."""
        self._database.create_function(name, num_args, function, deterministic=True)

    def _count(self, statement: str, split: str | None = None) -> int:
        return int(self._database.execute(statement, {"split": split}).fetchone()[0])

    def _exclude(self, forgotten: frozenset[str]) -> int:
        if not forgotten:
            return 0
        self._define("is_forgotten", 1, lambda identity: hash_of(identity) in forgotten)
        self._database.execute(sql.MARK_FORGOTTEN)
        return self._count(sql.COUNT_FORGOTTEN)

    def _check_unique(self) -> None:
        self._database.execute(sql.INDEX_CLIPS)
        row = self._database.execute(sql.FIRST_REPEATED_KEY).fetchone()
        if row is not None:
            key = ClipKey(row["identity"], row["video"], row["clip"])
            raise ValueError(f"{row['first_source']} and {row['second_source']} have the same key {key}")

    def _assign_splits(self) -> None:
        """Assign identities to splits: as planned before, as the corpus says, else by hash; `train` is never empty."""
        if self._count(sql.COUNT_TRAIN_FOLDERS):
            self._database.executescript(sql.SETTLE_TRAIN_FOLDERS)
        row = self._database.execute(sql.FIRST_CONTRADICTORY_SPLIT).fetchone()
        if row is not None:
            first, second = sorted((row["low"], row["high"]), key=SPLITS.index)
            raise ValueError(
                f"identity {row['identity']!r} is in two splits, {first} and {second}: a person seen in training "
                "cannot be held out"
            )
        official = bool(self._count(sql.COUNT_REQUESTED_TEST)) or self._has_test_identities()
        self._define("split_of", 1, lambda identity: self._split_of(identity, official))
        self._database.execute(sql.ASSIGN_SPLITS)
        if not self._count(sql.COUNT_TRAIN_IDENTITIES):
            self._define("name_hash", 1, _hash)
            self._database.execute(sql.MOVE_ONE_TO_TRAIN)

    def _has_test_identities(self) -> bool:
        if not self._test_identities:
            return False
        return bool(self._count(sql.COUNT_HELD_OUT))

    def _is_held_out(self, identity: str) -> bool:
        return nfc(identity) in self._test_identities

    def _split_of(self, identity: str, official: bool) -> str:
        """Return the split by the official test list where there is one (nobody else is then a test identity), else by
        hash."""
        if self._is_held_out(identity):
            return "test"
        test = 0.0 if official else self._config.test_fraction
        position = _hash(identity) / 2**63
        if position < test:
            return "test"
        return "val" if position < test + self._config.val_fraction else "train"

    def find_duplicates(self, fingerprints: Fingerprints) -> int:
        """Mark new clips with the same content as a planned clip or one with a smaller key; return their number.

        Only files of equal size are read: first the two ends of each, then the whole of those whose ends agree.
        """
        self._database.executescript(sql.LIST_SAME_SIZE)
        for whole in (False, True):
            self._database.executescript(sql.DROP_UNIQUE_PRINTS)
            self._database.executemany(sql.UPDATE_PRINT, self._prints(fingerprints, whole))
        self._database.executescript(sql.MARK_DUPLICATES)
        return self._count(sql.COUNT_DUPLICATES)

    def _prints(self, fingerprints: Fingerprints, whole: bool) -> Iterator[Mapping[str, str | int]]:
        """Yield the new prints of clips that are alike so far, by the store's checksums or their content."""
        rows = iter(self._database.execute(sql.ALIKE_CLIPS))
        while batch := list(itertools.islice(rows, _BATCH)):
            unread = [_to_clip(row) for row in batch if not row["checksum"]]
            read = iter(fingerprints(unread, whole))
            for row in batch:
                yield {"alike_id": row["alike_id"], "print": f"{row['print']}:{row['checksum'] or next(read)}"}

    def shards(self, first: int) -> Iterator[list[PlannedClip]]:
        """Yield the new clips shard by shard: whole videos ordered by hash, cut at the predicted size.

        Args:
            first: number of the first shard. Numbers are unique over the splits.
        """
        shard = first
        for split in SPLITS:
            num_clips = self._count(sql.COUNT_NEW_OF_SPLIT, split)
            if not num_clips:
                continue
            num_videos = self._count(sql.COUNT_NEW_VIDEOS_OF_SPLIT, split)
            total = num_clips * self._config.clip_bytes
            num_shards = max(-(-total // self._config.shard_bytes), min(self._config.small_shards, num_videos))
            rows = self._database.execute(sql.NEW_CLIPS_OF_SPLIT, {"split": split})
            clips = (_to_clip(row, split) for row in rows)
            for group in cut_into_shards(clips, max(1, total // num_shards), self._config.clip_bytes):
                yield [dataclasses.replace(clip, shard=shard) for clip in group]
                shard += 1


def _key_columns(key: ClipKey) -> dict[str, str]:
    return {"identity": key.identity, "video": key.video, "clip": key.clip}


def _to_clip(row: sqlite3.Row, split: str = "") -> PlannedClip:
    return PlannedClip(
        key=ClipKey(row["identity"], row["video"], row["clip"]),
        source=row["source"],
        num_bytes=row["num_bytes"],
        split=split,
        shard=-1,
        location=row["location"],
        offset=row["offset"],
        boxes=row["boxes"],
        duplicate_of=row["duplicate_of"],
    )


def _hash(text: str) -> int:
    """Return 63 bits of sha256: SQLite's integers are signed."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
