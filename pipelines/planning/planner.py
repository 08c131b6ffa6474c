"""Which clip goes to which split and shard. The same listing and config give the same plan, anywhere.

A million clips are sorted, joined and cut in an SQLite file of a temporary folder, so that memory does not grow with
the corpus. A corpus that has grown since adds shards at the end of an earlier plan and moves nothing in it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipelines.dataset.forgotten_log import hash_of
from pipelines.dataset.schema import SPLITS, ClipKey
from pipelines.planning.plan import Changes, PlanConfig, PlannedClip, cut_into_shards
from pipelines.planning.sources import WHOLE, BoxFile, Source

# A content's fingerprint: of a small part of the file, or (True) of all of it. Equal contents, equal fingerprints.
Fingerprint = Callable[[PlannedClip, bool], str]

_TABLES = """
CREATE TABLE found (identity TEXT, video TEXT, clip TEXT, source TEXT, location TEXT, offset INTEGER, num_bytes INTEGER,
    checksum TEXT, split TEXT, fallback TEXT);
CREATE TABLE box_files (identity TEXT, video TEXT, clip TEXT, boxes TEXT);
CREATE TABLE planned (identity TEXT, video TEXT, clip TEXT, source TEXT, boxes TEXT, num_bytes INTEGER, split TEXT);
CREATE TABLE clips (identity TEXT, video TEXT, clip TEXT, source TEXT, location TEXT, offset INTEGER, num_bytes INTEGER,
    checksum TEXT, split TEXT, boxes TEXT, known INTEGER DEFAULT 0, gone INTEGER DEFAULT 0, duplicate_of TEXT);
CREATE TABLE identities (identity TEXT PRIMARY KEY, split TEXT);
"""
# A film is cut by the box files of its video; a clip takes the box file of its own name.
_JOIN_BOXES = f"""
CREATE INDEX box_files_by_key ON box_files (identity, video, clip);
INSERT INTO clips (identity, video, clip, source, location, offset, num_bytes, checksum, split, boxes)
    SELECT f.identity, f.video, f.clip, source, location, offset, num_bytes, checksum, split, boxes
        FROM found f LEFT JOIN box_files b USING (identity, video, clip) WHERE f.clip != '{WHOLE}'
    UNION ALL
    SELECT f.identity, f.video, coalesce(b.clip, '0'), source, location, offset, num_bytes, checksum, split, boxes
        FROM found f LEFT JOIN box_files b USING (identity, video) WHERE f.clip = '{WHOLE}';
DROP TABLE found;
"""


class Planner:
    """Collects a listing and cuts it into shards. A context manager; its scratch file goes with it.

    Use in this order: `add` the listing, `load_previous` the earlier plan, `compare`, then `shards`.
    """

    def __init__(self, config: PlanConfig, *, test_identities: frozenset[str] = frozenset()) -> None:
        self._config, self._test_identities = config, test_identities
        self._folder = tempfile.TemporaryDirectory(prefix="sfumato-plan-")
        self._database = sqlite3.connect(Path(self._folder.name) / "plan.db", isolation_level=None)
        self._database.create_function(
            "place", 2, lambda identity, video: _hash(f"{identity}/{video}"), deterministic=True
        )
        # A scratch file: nothing of it has to survive a crash, and its pages need not stay in memory.
        for setting in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-16384", "temp_store=FILE"):
            self._database.execute(f"PRAGMA {setting}")
        self._database.execute(f"PRAGMA temp_store_directory='{self._folder.name}'")
        self._database.executescript(_TABLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._database.close()
        self._folder.cleanup()

    def add(self, found: Iterable[Source | BoxFile]) -> None:
        """Take in the listing.

        Raises:
            ValueError: two clips have the same key, or one identity is put into two splits.
        """
        self._database.execute("BEGIN")
        for item in found:
            key = item.key
            if isinstance(item, BoxFile):
                values: tuple[Any, ...] = (key.identity, key.video, key.clip, item.relative)
                self._database.execute("INSERT INTO box_files VALUES (?, ?, ?, ?)", values)
                continue
            values = (key.identity, key.video, key.clip, item.relative, item.location, item.offset, item.num_bytes)
            more = (item.checksum, item.split, item.fallback)
            self._database.execute("INSERT INTO found VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*values, *more))
        self._database.execute("COMMIT")

    def load_previous(self, planned: Iterable[PlannedClip]) -> None:
        """Take in the rows of an earlier plan."""
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT INTO planned VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (c.key.identity, c.key.video, c.key.clip, c.source, c.boxes, c.num_bytes, c.split)
                for c in planned
                if c.attempt == 1
            ),
        )
        self._database.execute("COMMIT")
        self._database.execute("CREATE INDEX planned_by_key ON planned (identity, video, clip)")
        self._database.execute("CREATE INDEX planned_by_source ON planned (source, boxes)")

    def compare(self, forgotten: frozenset[str] = frozenset()) -> Changes:
        """Name the clips, match them with the earlier plan, check keys and splits. `forgotten`: digests of identities.

        Raises:
            ValueError: two clips have the same key, or one identity is put into two splits.
        """
        self._name_flat_films()
        self._database.executescript(_JOIN_BOXES)
        num_forgotten = self._leave_out(forgotten)
        run = self._database.execute
        run(
            "UPDATE clips SET known = 1 WHERE EXISTS (SELECT 1 FROM planned p WHERE p.identity = clips.identity AND "
            "p.video = clips.video AND p.clip = clips.clip)"
        )
        self._check_unique()
        changed = [
            str(source)
            for (source,) in run(
                "SELECT c.source FROM clips c JOIN planned p USING (identity, video, clip) "
                "WHERE c.num_bytes != p.num_bytes OR c.source != p.source ORDER BY 1 LIMIT 20"
            )
        ]
        gone = self._count(
            "planned p WHERE NOT EXISTS (SELECT 1 FROM clips c WHERE c.identity = p.identity AND c.video = p.video "
            "AND c.clip = p.clip)"
        )
        self._assign_splits()
        known, new = self._count("clips WHERE known AND NOT gone"), self._count("clips WHERE NOT known")
        return Changes(new, known, gone, num_forgotten, tuple(changed))

    def _count(self, what: str) -> int:
        return int(self._database.execute(f"SELECT count(*) FROM {what}").fetchone()[0])

    def _name_flat_films(self) -> None:
        """Films of a flat folder that differ in their suffix only carry it in their name; planned films keep theirs."""
        run = self._database.execute
        run("CREATE INDEX found_by_name ON found (identity, video, clip)")
        run(
            "UPDATE found SET identity = fallback, video = fallback WHERE fallback IS NOT NULL AND "
            "(identity, video, clip) IN (SELECT identity, video, clip FROM found GROUP BY 1, 2, 3 HAVING count(*) > 1)"
        )
        run(
            "UPDATE found SET (identity, video) = (SELECT identity, video FROM planned p WHERE p.source = found.source)"
            " WHERE fallback IS NOT NULL AND EXISTS (SELECT 1 FROM planned p WHERE p.source = found.source)"
        )
        run(
            "UPDATE found SET identity = fallback, video = fallback WHERE fallback IS NOT NULL AND EXISTS (SELECT 1 "
            "FROM planned p WHERE p.identity = found.identity AND p.video = found.video AND p.source != found.source)"
        )

    def _leave_out(self, forgotten: frozenset[str]) -> int:
        if not forgotten:
            return 0
        # They stay listed until copies of their films under other names are found; `known` keeps them out of shards.
        self._database.create_function("forgotten", 1, lambda name: hash_of(name) in forgotten)
        self._database.execute("UPDATE clips SET known = 1, gone = 1 WHERE forgotten(identity)")
        return self._count("clips WHERE gone")

    def _check_unique(self) -> None:
        self._database.execute("CREATE INDEX clips_by_key ON clips (identity, video, clip)")
        twice = self._database.execute(
            "SELECT identity, video, clip, min(source), max(source) FROM clips GROUP BY 1, 2, 3 HAVING count(*) > 1 "
            "ORDER BY 1, 2, 3 LIMIT 1"
        ).fetchone()
        if twice is not None:
            identity, video, clip, first, second = twice
            raise ValueError(f"{first} and {second} have the same key {ClipKey(identity, video, clip)}")

    def _assign_splits(self) -> None:
        """identity -> split: as planned before, as the corpus says, else by hash. `train` is never left empty."""
        run = self._database.execute
        asked = "SELECT identity, min(split) AS a, max(split) AS b FROM (SELECT identity, split FROM clips WHERE NOT "
        asked += "gone AND split IS NOT NULL UNION ALL SELECT identity, split FROM planned) GROUP BY identity"
        contradiction = run(f"SELECT * FROM ({asked}) WHERE a != b LIMIT 1").fetchone()
        if contradiction is not None:
            identity, *both = contradiction
            first, second = sorted(both, key=SPLITS.index)
            raise ValueError(
                f"identity {identity!r} is in two splits, {first} and {second}: a person seen in training cannot be "
                "held out"
            )
        official = bool(self._count("clips WHERE split = 'test' AND NOT gone")) or self._has_test_identities()
        self._database.create_function("split_of", 1, lambda name: self._split_of(name, official), deterministic=True)
        run(
            "INSERT INTO identities SELECT i.identity, coalesce(a, split_of(i.identity)) FROM (SELECT identity FROM "
            f"clips WHERE NOT gone UNION SELECT identity FROM planned) i LEFT JOIN ({asked}) USING (identity)"
        )
        if not self._count("identities WHERE split = 'train'"):
            self._database.create_function("name_hash", 1, _hash, deterministic=True)
            run(
                "UPDATE identities SET split = 'train' WHERE identity = (SELECT i.identity FROM identities i WHERE "
                f"i.identity NOT IN (SELECT identity FROM ({asked})) ORDER BY name_hash(i.identity), 1 LIMIT 1)"
            )

    def _has_test_identities(self) -> bool:
        if not self._test_identities:
            return False
        self._database.create_function("held_out", 1, lambda name: name in self._test_identities)
        return bool(self._count("(SELECT DISTINCT identity FROM clips) WHERE held_out(identity)"))

    def _split_of(self, identity: str, official: bool) -> str:
        """By list where there is an official one (nobody else is then tested on), else by hash."""
        if identity in self._test_identities:
            return "test"
        test = 0.0 if official else self._config.test_fraction
        place = _hash(identity) / 2**63
        if place < test:
            return "test"
        return "val" if place < test + self._config.val_fraction else "train"

    def find_duplicates(self, fingerprint: Fingerprint) -> int:
        """Mark new clips whose content a clip with a smaller key, or a planned one, has already; returns their number.

        Only files of equal size are looked at: at a small part of each, and at the whole of those whose parts agree.
        Excerpts of one film share a file and are no duplicates.
        """
        run = self._database.execute
        whole_files = (
            "boxes IS NULL OR NOT EXISTS (SELECT 1 FROM clips o WHERE o.source = c.source AND o.rowid != c.rowid)"
        )
        run("CREATE INDEX clips_by_source ON clips (source)")
        run("CREATE INDEX clips_by_size ON clips (num_bytes)")
        run(
            f"CREATE TABLE alike AS SELECT c.rowid AS id, num_bytes || '' AS print FROM clips c WHERE ({whole_files}) "
            "AND num_bytes > 0 AND num_bytes IN (SELECT num_bytes FROM clips GROUP BY num_bytes HAVING count(*) > 1)"
        )
        for whole in (False, True):
            run("CREATE INDEX alike_by_print ON alike (print)")
            run("DELETE FROM alike WHERE print IN (SELECT print FROM alike GROUP BY print HAVING count(*) < 2)")
            run("DROP INDEX alike_by_print")
            cursor = run("SELECT a.rowid, a.print, c.checksum, c.* FROM alike a JOIN clips c ON c.rowid = a.id")
            updates = (
                (f"{before}:{checksum or fingerprint(_clip(row), whole)}", at) for at, before, checksum, *row in cursor
            )
            self._database.executemany("UPDATE alike SET print = ? WHERE rowid = ?", updates)
        run("CREATE INDEX alike_by_print ON alike (print)")
        run("CREATE INDEX alike_by_id ON alike (id)")
        run(
            "UPDATE clips SET duplicate_of = (SELECT o.identity || '/' || o.video || '/' || o.clip FROM alike a "
            "JOIN alike b USING (print) JOIN clips o ON o.rowid = b.id WHERE a.id = clips.rowid AND o.rowid != "
            "clips.rowid AND (o.known OR (o.identity, o.video, o.clip) < (clips.identity, clips.video, clips.clip)) "
            "ORDER BY o.known DESC, o.identity, o.video, o.clip LIMIT 1) WHERE NOT known AND rowid IN (SELECT id FROM "
            "alike)"
        )
        # A copy of a forgotten person's film is that person's: it is left out as well.
        run(
            "UPDATE clips SET known = 1, gone = 1, duplicate_of = NULL WHERE NOT known AND EXISTS (SELECT 1 FROM "
            "alike a JOIN alike b USING (print) JOIN clips o ON o.rowid = b.id WHERE a.id = clips.rowid AND o.gone)"
        )
        return self._count("clips WHERE duplicate_of IS NOT NULL AND NOT gone")

    def shards(self, first: int) -> Iterator[list[PlannedClip]]:
        """The new clips, shard by shard: whole videos ordered by hash, cut at the predicted size.

        Args:
            first: number of the first shard. Numbers are unique over the splits.
        """
        shard = first
        for split in SPLITS:
            members = f"clips c JOIN identities i USING (identity) WHERE NOT known AND i.split = '{split}'"
            number = self._count(members)
            if not number:
                continue
            videos = self._count(f"(SELECT DISTINCT identity, video FROM {members})")
            total = number * self._config.clip_bytes
            wanted = max(-(-total // self._config.shard_bytes), min(self._config.small_shards, videos))
            rows = self._database.execute(
                f"SELECT c.*, i.split FROM {members} ORDER BY place(c.identity, c.video), c.identity, c.video, c.clip"
            )
            for group in cut_into_shards(
                (_clip(row, split) for row in rows), max(1, total // wanted), self._config.clip_bytes
            ):
                yield [dataclasses.replace(clip, shard=shard) for clip in group]
                shard += 1


def _clip(row: Iterable[Any], split: str = "") -> PlannedClip:
    identity, video, clip, source, location, offset, num_bytes, _, _, boxes, _, _, duplicate_of, *_ = row
    key = ClipKey(identity, video, clip)
    return PlannedClip(key, source, num_bytes, split, -1, location, offset, boxes, duplicate_of)


def _hash(text: str) -> int:
    """63 bits of sha256: SQLite's integers are signed."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
