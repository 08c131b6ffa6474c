import itertools

import pytest

from training.episodes.epoch_order import VideoOrder, WindowOrder

# Twenty videos in seven shards of uneven sizes.
SHARDS = [f"s{shard}" for shard, count in enumerate((5, 1, 4, 2, 3, 4, 1)) for _ in range(count)]


def visited(order: VideoOrder, epoch: int) -> list[int]:
    return [order.video(number) for number in range(epoch * order.num_videos, (epoch + 1) * order.num_videos)]


@pytest.mark.parametrize("order", [VideoOrder(20, 3), WindowOrder(SHARDS, 2, 3)], ids=["videos", "shards"])
def test_every_video_comes_once_an_epoch_in_a_new_order(order: VideoOrder) -> None:
    epochs = [visited(order, epoch) for epoch in range(3)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_videos_of_a_window_come_together_and_their_shards_once_an_epoch() -> None:
    order = WindowOrder(SHARDS, 2, 3)
    assert order.num_windows == 4
    for epoch in range(3):
        seen: list[str] = []
        numbers = range(epoch * 20, (epoch + 1) * 20)
        for window, members in itertools.groupby(numbers, key=order.window):
            shards = order.shards(window)
            assert {SHARDS[order.video(number)] for number in members} == {*shards}
            seen += shards
        assert sorted(seen) == sorted({*SHARDS})


def test_windows_are_shuffled_inside() -> None:
    order = WindowOrder(SHARDS, 7, 0)  # one window: nothing but a shuffle
    names = [SHARDS[video] for video in visited(order, 0)]
    assert len([*itertools.groupby(names)]) > 7


def test_the_order_is_the_seeds_and_not_the_places() -> None:
    here, there = (WindowOrder([root + name for name in SHARDS], 2, 5) for root in ("/a/", "gs://b/"))
    assert visited(here, 1) == visited(there, 1)
    assert visited(here, 1) != visited(WindowOrder(SHARDS, 2, 6), 1)


def test_windows_are_counted_through_the_epochs() -> None:
    order = WindowOrder(SHARDS, 3, 0)
    assert [order.window(number) for number in (0, 19, 20, 59)] == [0, 2, 3, 8]
    assert {*order.shards(3), *order.shards(4), *order.shards(5)} == {*SHARDS}
    assert [len(order.shards(window)) for window in range(3)] == [3, 3, 1]
