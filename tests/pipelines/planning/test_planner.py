import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pipelines.dataset.forgotten_log import hash_of
from pipelines.dataset.schema import ClipKey, plan_digest
from pipelines.planning.plan import Changes, PlanConfig, PlannedClip
from pipelines.planning.planner import Planner
from pipelines.planning.sources import WHOLE_VIDEO, BoxFile, Source

ROOT = Path(__file__).parents[3]
Listing = Iterable[Source | BoxFile]


def corpus(identities: int, videos: int = 2, clips: int = 3, split: str | None = None) -> list[Source]:
    return [
        Source(ClipKey(f"id{i}", f"v{v}", f"{c}"), f"{i}/{v}/{c}.mp4", 1000 + i * 97 + v * 13 + c, split)
        for i in range(identities)
        for v in range(videos)
        for c in range(clips)
    ]


@dataclass
class Made:
    """A plan and how it came about."""

    shards: list[list[PlannedClip]]
    changes: Changes
    num_duplicates: int
    read: list[tuple[str, bool]] = field(default_factory=list)

    @property
    def clips(self) -> list[PlannedClip]:
        return [clip for shard in self.shards for clip in shard]


def make_plan(
    found: Listing,
    config: PlanConfig | None = None,
    *,
    earlier: Iterable[PlannedClip] = (),
    first: int = 0,
    contents: Callable[[str], str] = lambda source: source,
    forgotten: frozenset[str] = frozenset(),
    test_identities: frozenset[str] = frozenset(),
) -> Made:
    read: list[tuple[str, bool]] = []

    def fingerprints(clips: Sequence[PlannedClip], whole: bool) -> Iterable[str]:
        return [fingerprint(clip, whole) for clip in clips]

    def fingerprint(clip: PlannedClip, whole: bool) -> str:
        read.append((clip.source, whole))
        text = contents(clip.source)
        return text if whole else text[:4]

    with Planner(config or PlanConfig(), test_identities=test_identities) as planner:
        planner.load_previous(earlier)
        planner.add(found)
        changes = planner.compare(forgotten)
        number = planner.find_duplicates(fingerprints)
        return Made(list(planner.shards(first)), changes, number, read)


def test_the_plan_does_not_depend_on_the_order_of_the_listing() -> None:
    sources = corpus(40)
    shuffled = random.Random(1).sample(sources, len(sources))
    assert make_plan(sources).shards == make_plan(shuffled).shards


@pytest.mark.slow
def test_every_clip_has_one_place_and_shards_are_numbered_through() -> None:
    made = make_plan(corpus(200), PlanConfig(shard_bytes=10_000, clip_bytes=1_000), first=5)
    assert sorted(str(clip.key) for clip in made.clips) == sorted(str(source.key) for source in corpus(200))
    for number, shard in enumerate(made.shards, start=5):
        assert {clip.shard for clip in shard} == {number}
        assert len({clip.split for clip in shard}) == 1


def test_shards_are_cut_by_predicted_bytes_and_never_through_a_video() -> None:
    made = make_plan(corpus(200), PlanConfig(shard_bytes=10_000, clip_bytes=1_000))
    places = defaultdict(set)
    for clip in made.clips:
        places[clip.key.video_id].add(clip.shard)
    assert all(len(place) == 1 for place in places.values())
    assert max(map(len, made.shards)) <= 12


def test_no_identity_is_in_two_splits_and_fractions_are_about_right() -> None:
    made = make_plan(corpus(1000, videos=1, clips=1), PlanConfig(val_fraction=0.1, test_fraction=0.2))
    members = defaultdict(set)
    for clip in made.clips:
        members[clip.split].add(clip.key.identity)
    assert sum(map(len, members.values())) == 1000
    assert 60 < len(members["val"]) < 140
    assert 150 < len(members["test"]) < 250


@pytest.mark.parametrize("identities", [1, 2, 3])
def test_a_tiny_corpus_always_trains(identities: int) -> None:
    for number in range(10):
        sources = [Source(ClipKey(f"{number}-{i}", "v", "0"), f"{i}.mp4", 1) for i in range(identities)]
        made = make_plan(sources, PlanConfig(val_fraction=0.45, test_fraction=0.45))
        assert any(clip.split == "train" for clip in made.clips)


def test_the_corpus_own_split_is_obeyed_and_contradictions_are_refused() -> None:
    assert {clip.split for clip in make_plan(corpus(3, split="test")).clips} == {"test"}
    mixed = [*corpus(1, videos=1, clips=1, split="train"), *corpus(1, videos=2, clips=1, split="val")[1:]]
    with pytest.raises(ValueError, match=r"'id0' is in two splits, train and val"):
        make_plan(mixed)


def test_where_test_identities_are_published_nobody_else_is_tested_on() -> None:
    sources = corpus(300, videos=1, clips=1)
    made = make_plan(sources, PlanConfig(test_fraction=0.3), test_identities=frozenset({"id7", "id9"}))
    assert {clip.key.identity for clip in made.clips if clip.split == "test"} == {"id7", "id9"}
    assert any(clip.split == "val" for clip in made.clips)


def test_a_small_corpus_gives_several_workers_something_to_do() -> None:
    assert len(make_plan(corpus(7, videos=1, clips=1, split="train")).shards) == 7
    assert len(make_plan(corpus(100, split="train")).shards) == 8


def test_new_data_adds_shards_and_moves_nothing() -> None:
    config = PlanConfig(shard_bytes=40_000, clip_bytes=1_000)
    before = make_plan(corpus(50), config)
    later = make_plan(corpus(60), config, earlier=before.clips, first=len(before.shards))
    assert (later.changes.num_known, later.changes.num_new, later.changes.num_gone) == (300, 60, 0)
    assert {clip.key.identity for clip in later.clips} == {f"id{i}" for i in range(50, 60)}
    assert min(clip.shard for clip in later.clips) == len(before.shards)


def test_a_new_clip_of_a_known_person_goes_to_that_persons_split() -> None:
    before = make_plan(corpus(1, videos=1, clips=1), PlanConfig(val_fraction=0.0, test_fraction=0.0))
    held_out = [replace(clip, split="val") for clip in before.clips]
    later = make_plan(corpus(1, videos=2, clips=2), earlier=held_out, first=1)
    assert {clip.split for clip in later.clips} == {"val"}


def test_what_changed_and_what_is_gone_is_told() -> None:
    before = make_plan(corpus(2, videos=1, clips=1))
    changed = [replace(corpus(1, videos=1, clips=1)[0], num_bytes=5)]
    later = make_plan(changed, earlier=before.clips)
    assert later.changes.changed == ("0/0/0.mp4",)
    assert (later.changes.num_known, later.changes.num_gone) == (1, 1)


def test_two_clips_of_one_key_are_refused() -> None:
    twice = [Source(ClipKey("i", "v", "0"), "a.mp4", 1), Source(ClipKey("i", "v", "0"), "b.mp4", 2)]
    with pytest.raises(ValueError, match=r"a\.mp4 and b\.mp4 have the same key i/v/0"):
        make_plan(twice)


def flat(*names: str) -> list[Source]:
    stems = [name.rpartition(".")[0] for name in names]
    return [Source(ClipKey(s, s, "0"), n, 1 + i, fallback=n) for i, (s, n) in enumerate(zip(stems, names, strict=True))]


def test_videos_of_one_stem_are_kept_apart() -> None:
    assert sorted(clip.key.identity for clip in make_plan(flat("a.mp4", "a.mov", "b.mp4")).clips) == [
        "a.mov",
        "a.mp4",
        "b",
    ]


def test_a_planned_video_keeps_its_name_when_another_of_its_stem_appears() -> None:
    before = make_plan(flat("a.mp4"))
    later = make_plan(flat("a.mp4", "a.mov"), earlier=before.clips, first=1)
    assert (later.changes.num_known, later.changes.changed) == (1, ())
    assert [clip.key.identity for clip in later.clips] == ["a.mov"]


def test_boxes_go_to_their_clips_and_cut_whole_videos() -> None:
    found: Listing = [
        Source(ClipKey("id1", "v", "00001"), "mp4/id1/v/00001.mp4", 1),
        Source(ClipKey("id1", "v", "00002"), "mp4/id1/v/00002.mp4", 2),
        BoxFile(ClipKey("id1", "v", "00001"), "txt/id1/v/00001.txt"),
        Source(ClipKey("id2", "film", WHOLE_VIDEO), "films/id2/film.mp4", 3),
        BoxFile(ClipKey("id2", "film", "00007"), "txt/id2/film/00007.txt"),
        BoxFile(ClipKey("id2", "film", "00009"), "txt/id2/film/00009.txt"),
        Source(ClipKey("id3", "film", WHOLE_VIDEO), "films/id3/film.mp4", 4),
    ]
    clips = {str(clip.key): clip for clip in make_plan(found).clips}
    assert {key: (clip.boxes, clip.is_excerpt) for key, clip in clips.items()} == {
        "id1/v/00001": ("txt/id1/v/00001.txt", False),
        "id1/v/00002": (None, False),
        "id2/film/00007": ("txt/id2/film/00007.txt", True),
        "id2/film/00009": ("txt/id2/film/00009.txt", True),
        "id3/film/0": (None, False),
    }
    assert {clip.duplicate_of for clip in clips.values()} == {None}


def same_size(*names: str, checksum: str | None = None) -> list[Source]:
    return [Source(ClipKey(name, "v", "0"), name, 500, checksum=checksum) for name in names]


def test_equal_contents_are_found_and_the_first_by_key_stays() -> None:
    contents = {"ann": "same film", "bob": "same film", "cat": "same head, other tail", "dan": "other film"}
    made = make_plan(same_size("dan", "cat", "bob", "ann"), contents=contents.__getitem__)
    assert {clip.source: clip.duplicate_of for clip in made.clips if clip.duplicate_of} == {"bob": "ann/v/0"}
    assert made.num_duplicates == 1
    # dan's first bytes are like nobody's: the rest of it is never read.
    assert ("dan", False) in made.read
    assert ("dan", True) not in made.read
    assert ("cat", True) in made.read


def test_only_files_of_one_size_are_read_and_none_where_the_store_has_checksums() -> None:
    assert make_plan(corpus(3)).read == []
    made = make_plan([*same_size("ann", "bob", checksum="md5-1"), *same_size("cat", checksum="md5-2")])
    assert made.read == []
    assert made.num_duplicates == 1


def test_a_new_clip_like_a_planned_one_is_the_duplicate_whatever_its_name() -> None:
    before = make_plan(same_size("zoe"))
    later = make_plan(same_size("zoe", "ann"), earlier=before.clips, first=1, contents=lambda source: "same")
    assert [(clip.source, clip.duplicate_of) for clip in later.clips] == [("ann", "zoe/v/0")]


def test_who_was_forgotten_stays_out() -> None:
    made = make_plan(corpus(3), forgotten=frozenset({hash_of("id1")}))
    assert {clip.key.identity for clip in made.clips} == {"id0", "id2"}
    assert made.changes.num_forgotten == 6


def test_a_copy_of_a_forgotten_persons_video_stays_out_under_any_name() -> None:
    forgotten = frozenset({hash_of("bob")})
    made = make_plan(
        same_size("ann", "bob", "cat"), contents={"ann": "x", "bob": "x", "cat": "y"}.__getitem__, forgotten=forgotten
    )
    assert [(clip.source, clip.duplicate_of) for clip in made.clips] == [("cat", None)]


def test_fractions_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.5 and 0\.5"):
        PlanConfig(val_fraction=0.5, test_fraction=0.5)


def test_plans_of_equal_shards_have_equal_digests() -> None:
    assert plan_digest(["a", "b"]) == plan_digest(iter(["a", "b"]))
    assert plan_digest(["a", "b"]) != plan_digest(["b", "a"])


# In a process of its own: what other tests left in memory does not count, and types are not checked in each of millions
# of calls.
_PLAN_TWICE = """
import random, resource
from pipelines.dataset.schema import ClipKey
from pipelines.planning.plan import PlanConfig
from pipelines.planning.planner import Planner
from pipelines.planning.sources import Source

def listing(number):
    rng = random.Random(0)
    for n in range(number):
        key = ClipKey(f"id{n // 170:05d}", f"video-{n // 7:07d}", f"{n % 7:05d}")
        yield Source(key, f"dev/mp4/{key}.mp4", rng.randrange(50_000, 600_000))

for number in (30_000, 110_000):
    with Planner(PlanConfig()) as planner:
        planner.add(listing(number))
        planner.compare()
        planner.find_duplicates(lambda clips, whole: [clip.source for clip in clips])
        print(sum(len(shard) for shard in planner.shards(0)), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_clips() -> None:
    done = subprocess.run([sys.executable, "-c", _PLAN_TWICE], capture_output=True, text=True, check=True, cwd=ROOT)
    (few, before), (many, after) = ([int(word) for word in line.split()] for line in done.stdout.splitlines())
    assert (few, many) == (30_000, 110_000)
    # As Python objects, the 80,000 further clips would take some 70 MB; peak memory is in kB.
    assert after - before < 30_000
