"""Planning from a store: how many requests it takes, and that they are made at once."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipelines.dataset.schema import ClipKey
from pipelines.planning import listed_files
from pipelines.planning.manifests import Manifest, ManifestRow
from pipelines.planning.plan import MISSING, PlanConfig, PlannedClip
from pipelines.planning.prepare import PlanRequest, content_fingerprints, prepare


class SlowStore(MemoryFileSystem):
    """`slow://`: the files of `memory://`, each request after a while, and counted. fsspec keeps instances, so the
    counts are the class's."""

    protocol = "slow"
    cachable = True
    latency_s = 0.0
    num_requests = 0
    num_bytes = 0
    most_at_once = 0
    _at_once = 0
    _lock = threading.Lock()

    @classmethod
    def reset(cls, latency_s: float) -> None:
        cls.latency_s, cls.num_requests, cls.num_bytes, cls.most_at_once = latency_s, 0, 0, 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("slow://", "memory://"))

    @classmethod
    def _count(cls, num_bytes: int = 0, num_requests: int = 1) -> None:
        with cls._lock:
            cls.num_requests += num_requests
            cls.num_bytes += num_bytes
            cls._at_once += num_requests
            cls.most_at_once = max(cls.most_at_once, cls._at_once)
        time.sleep(cls.latency_s)
        with cls._lock:
            cls._at_once -= num_requests

    def info(self, path: str, **more: Any) -> Any:
        self._count()
        return super().info(path, **more)

    def ls(self, path: str, detail: bool = True, **more: Any) -> Any:
        self._count()
        return super().ls(path, detail=detail, **more)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **more: Any) -> bytes:
        data: bytes = super().cat_file(path, start=start, end=end, **more)
        self._count(len(data))
        return data

    def cat_ranges(self, paths: Any, starts: Any, ends: Any, **more: Any) -> Any:
        """As stores do that are asked asynchronously: all ranges at once."""
        pieces = [MemoryFileSystem.cat_file(self, *each) for each in zip(paths, starts, ends, strict=True)]
        self._count(sum(map(len, pieces)), len(pieces))
        return pieces


fsspec.register_implementation("slow", SlowStore, clobber=True)

NUM_CLIPS, CLIP_BYTES = 60, 40_000
CLIPS = {
    f"id{number % 6:05}/video{number % 3}/{number:05}.mp4": bytes([number]) * CLIP_BYTES for number in range(NUM_CLIPS)
}
CLIPS["id00009/copy/00000.mp4"] = CLIPS["id00000/video0/00000.mp4"]


@pytest.fixture
def root() -> Iterator[str]:
    """Name of a folder of the store, which holds the clips as a tree, as tars, and a manifest of them."""
    memory, name = fsspec.filesystem("memory"), uuid.uuid4().hex
    for path, data in CLIPS.items():
        memory.pipe(f"/{name}/tree/{path}", data)
    rows = "".join(f"tree/{path},{path[:7]}\n" for path in CLIPS)
    memory.pipe(f"/{name}/clips.csv", f"path,identity\n{rows}".encode())
    for path, data in tars(CLIPS).items():
        memory.pipe(f"/{name}/tars/{path}", data)
    SlowStore.reset(0.01)
    yield f"slow://{name}"
    memory.rm(f"/{name}", recursive=True)


def tars(files: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """One tar for each identity; the last has a name that is too long for one header."""
    made = {}
    for identity in sorted({path.partition("/")[0] for path in files}):
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for path, data in files.items():
                if path.startswith(identity):
                    member = tarfile.TarInfo(path)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        made[f"{identity}.tar"] = sink.getvalue()
    return made


def plan(src: str, out: Path) -> list[PlannedClip]:
    prepared = prepare(PlanRequest(src, str(out), "auto", {}, PlanConfig()))
    return [clip for shard in prepared.plan.all_clips() for clip in shard]


@pytest.mark.parametrize(("source", "requests"), [("tree", 150), ("clips.csv", 200), ("tars", 250)])
def test_requests_are_few_and_made_at_once(root: str, source: str, requests: int, tmp_path: Path) -> None:
    clips = plan(f"{root}/{source}", tmp_path / "out")
    assert len(clips) == len(CLIPS)
    assert sum(clip.duplicate_of is not None for clip in clips) == 1
    assert SlowStore.num_requests < requests
    assert SlowStore.most_at_once >= 8  # how many get to sleep together depends on the machine


def test_of_tars_only_headers_are_read_and_each_once(root: str, tmp_path: Path) -> None:
    plan(f"{root}/tars", tmp_path / "out")
    # What is compared of the clips' contents; between ends that are read in one call, gaps of an eighth may be read.
    ends, whole_pair = NUM_CLIPS * 2 * 16 * 1024 * 9 // 8, 2 * CLIP_BYTES
    assert SlowStore.num_bytes - ends - whole_pair < 0.2 * sum(map(len, CLIPS.values()))
    assert SlowStore.num_bytes >= NUM_CLIPS * (tarfile.BLOCKSIZE + 2 * 16 * 1024)  # a header and both ends of each clip


def test_the_plan_is_that_of_the_same_files_on_a_disk(root: str, tmp_path: Path) -> None:
    for path, data in tars(CLIPS).items():
        (tmp_path / "tars").mkdir(exist_ok=True)
        (tmp_path / "tars" / path).write_bytes(data)
    here, there = plan(str(tmp_path / "tars"), tmp_path / "a"), plan(f"{root}/tars", tmp_path / "b")
    assert [(clip.key, clip.offset, clip.num_bytes, clip.split, clip.shard) for clip in here] == [
        (clip.key, clip.offset, clip.num_bytes, clip.split, clip.shard) for clip in there
    ]


def test_a_broken_tar_in_a_store_is_named(root: str, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    whole = tars(CLIPS)["id00000.tar"]
    for name, data, reason in (("cut", whole[:60_000], "is cut off"), ("text", b"hello" * 999, "not an uncompressed")):
        memory.pipe(f"/{root.partition('://')[2]}/{name}/x.tar", data)
        with pytest.raises(ValueError, match=rf"{name}/x\.tar.*{reason}"):
            plan(f"{root}/{name}", tmp_path / name)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Manifests of ten files are many."""
    monkeypatch.setattr(listed_files, "_MANY", 10)


def rows_of(src: str) -> list[ManifestRow]:
    SlowStore.reset(0.0)
    return list(Manifest(src).rows())


def test_a_large_manifest_is_matched_with_a_few_listings(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up, requests = rows_of(f"{root}/clips.csv"), SlowStore.num_requests
    monkeypatch.setattr(listed_files, "_MANY", 10)
    assert rows_of(f"{root}/clips.csv") == looked_up
    assert requests >= len(CLIPS)
    assert SlowStore.num_requests < len(CLIPS) / 2  # a listing for each of eighteen folders of videos, and those above


@pytest.mark.usefixtures("listed")
def test_rows_that_no_listing_holds_are_looked_up(root: str, tmp_path: Path) -> None:
    """A missing file, a folder of frames, an empty file, another bucket, Windows' backslashes, a size that is given."""
    memory, name = fsspec.filesystem("memory"), root.partition("://")[2]
    memory.pipe(f"/{name}/tree/frames/1.png", b"123")
    memory.pipe(f"/{name}/tree/frames/2.png", b"4567")
    memory.pipe(f"/{name}/tree/empty.mp4", b"")
    memory.pipe(f"/{name}-other/one.mp4", b"12")
    others = ["tree/gone.mp4", "tree/frames", "tree/empty.mp4", f"slow://{name}-other/one.mp4", "tree\\id00000\\x.mp4"]
    memory.pipe(f"/{name}/tree/id00000/x.mp4", b"abc")
    table = "path,num_bytes\n" + "".join(f"{path},\n" for path in [*others, *(f"tree/{path}" for path in CLIPS)])
    memory.pipe(f"/{name}/all.csv", f"{table}tree/unseen.mp4,77\n".encode())
    rows = rows_of(f"{root}/all.csv")
    found = {row.path: (row.num_bytes, row.is_missing) for row in rows}
    assert [found[path] for path in ("tree/gone.mp4", "tree/frames/", "tree/empty.mp4")] == [
        (MISSING, True),
        (7, False),
        (0, False),
    ]
    assert found[f"slow://{name}-other/one.mp4"] == (2, False)
    assert found["tree/id00000/x.mp4"] == (3, False)
    assert found["tree/unseen.mp4"] == (77, False)
    assert all(found[f"tree/{path}"] == (CLIP_BYTES, False) for path in CLIPS)
    memory.rm(f"/{name}-other", recursive=True)


@pytest.mark.usefixtures("listed")
def test_a_listing_with_too_much_else_is_given_up(root: str) -> None:
    memory, name = fsspec.filesystem("memory"), root.partition("://")[2]
    expected = rows_of(f"{root}/clips.csv")[:12]
    rows = "".join(f"tree/{path},{path[:7]}\n" for path in [*CLIPS][:12])
    memory.pipe(f"/{name}/few.csv", f"path,identity\n{rows}".encode())
    for number in range(50):
        memory.pipe(f"/{name}/tree/id00000/{number}.txt", b"x")
    got = rows_of(f"{root}/few.csv")
    assert [(row.path, row.num_bytes, row.checksum) for row in got] == [
        (row.path, row.num_bytes, row.checksum) for row in expected
    ]


def test_a_clip_that_cannot_be_read_does_not_take_others_along(root: str) -> None:
    clips = [
        PlannedClip(
            key=ClipKey(f"i{number}", "v", "0"),
            source=path,
            num_bytes=CLIP_BYTES,
            split="train",
            shard=0,
            location=f"{root}/tree/{path}",
        )
        for number, path in enumerate(["gone.mp4", *[*CLIPS][:20], "also-gone.mp4"])
    ]
    prints = list(content_fingerprints(root)(clips, False))
    assert prints[0] == f"unreadable {clips[0].key}"
    assert prints[-1] == f"unreadable {clips[-1].key}"
    assert prints[1:-1] == [
        hashlib.sha256(CLIPS[clip.source][:16384] + CLIPS[clip.source][-16384:]).hexdigest() for clip in clips[1:-1]
    ]
