import random
from collections import defaultdict

import pytest

from pipelines.plan import PlanConfig, make_plan
from pipelines.schema import ClipKey
from pipelines.sources import Source


def corpus(identities: int, videos: int = 2, clips: int = 3, split: str | None = None) -> list[Source]:
    return [
        Source(ClipKey(f"id{i}", f"v{v}", f"{c}"), f"/data/{i}/{v}/{c}.mp4", f"{i}/{v}/{c}.mp4", 1000, split)
        for i in range(identities)
        for v in range(videos)
        for c in range(clips)
    ]


def test_the_plan_does_not_depend_on_the_order_of_the_listing() -> None:
    sources = corpus(40)
    shuffled = random.Random(1).sample(sources, len(sources))
    assert make_plan(sources, PlanConfig()) == make_plan(shuffled, PlanConfig())


def test_the_digest_follows_the_inputs_and_not_the_machine() -> None:
    sources = corpus(5)
    elsewhere = [Source(s.key, "/other" + s.url, s.relative, s.num_bytes) for s in sources]
    longer = [Source(s.key, s.url, s.relative, s.num_bytes + 1) for s in sources]
    digest = make_plan(sources, PlanConfig()).digest
    assert make_plan(elsewhere, PlanConfig()).digest == digest
    assert make_plan(longer, PlanConfig()).digest != digest


def test_no_identity_is_in_two_splits_and_fractions_are_about_right() -> None:
    plan = make_plan(corpus(1000, videos=1, clips=1), PlanConfig(val_fraction=0.1, test_fraction=0.2))
    members = defaultdict(set)
    for clip in plan.clips:
        members[clip.split].add(clip.source.key.identity)
    assert len(plan.clips) == 1000
    assert sum(map(len, members.values())) == 1000
    assert 60 < len(members["val"]) < 140
    assert 150 < len(members["test"]) < 250


def test_a_new_identity_moves_no_other() -> None:
    before = {c.source.key: c.split for c in make_plan(corpus(50), PlanConfig()).clips}
    after = {c.source.key: c.split for c in make_plan(corpus(51), PlanConfig()).clips}
    assert {key: after[key] for key in before} == before


@pytest.mark.parametrize("identities", [1, 2, 3])
def test_a_tiny_corpus_always_trains(identities: int) -> None:
    for number in range(30):
        sources = [Source(ClipKey(f"{number}-{i}", "v", "0"), "u", f"{i}.mp4", 1) for i in range(identities)]
        plan = make_plan(sources, PlanConfig(val_fraction=0.45, test_fraction=0.45))
        assert any(clip.split == "train" for clip in plan.clips)


def test_the_manifests_split_is_obeyed_and_contradictions_are_refused() -> None:
    held_out = corpus(3, split="test")
    assert {clip.split for clip in make_plan(held_out, PlanConfig()).clips} == {"test"}
    mixed = [*corpus(1, videos=1, clips=1, split="train"), *corpus(1, videos=2, clips=1, split="val")[1:]]
    with pytest.raises(ValueError, match=r"'id0' is in two splits, train and val"):
        make_plan(mixed, PlanConfig())


def test_shards_are_cut_by_predicted_bytes_and_never_through_a_video() -> None:
    plan = make_plan(corpus(200), PlanConfig(shard_bytes=10_000, clip_bytes=1_000))
    places = defaultdict(set)
    for clip in plan.clips:
        places[clip.source.key.video_id].add((clip.split, clip.shard))
    assert all(len(place) == 1 for place in places.values())
    sizes = [len(clips) for clips in plan.shards().values()]
    assert sum(sizes) == 1200
    assert max(sizes) <= 12
    assert len({shard for _, shard in plan.shards()}) == len(plan.shards())


def test_a_small_corpus_gives_several_workers_something_to_do() -> None:
    assert make_plan(corpus(7, videos=1, clips=1, split="train"), PlanConfig()).num_shards == 7
    assert make_plan(corpus(100, split="train"), PlanConfig()).num_shards == 8


def test_fractions_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.5 and 0\.5"):
        PlanConfig(val_fraction=0.5, test_fraction=0.5)
