"""Iterating ahead in a thread."""

import threading
import time
from collections.abc import Iterator

import pytest

from training.animation.prefetch import prefetch


def test_items_come_in_order_and_at_most_so_many_ahead() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(20):
            made.append(number)
            yield number

    seen = []
    for number in prefetch(numbers(), 3):
        time.sleep(0.005)
        seen.append(number)
        assert len(made) <= len(seen) + 3 + 1  # the queue's, and one that waits for a place in it
    assert seen == list(range(20))


def test_an_error_comes_after_the_items_before_it() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("the second is broken")

    items = prefetch(broken(), 4)
    assert next(items) == 1
    with pytest.raises(ValueError, match="the second is broken"):
        next(items)


def test_closing_it_ends_the_thread_and_the_iterator() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    items = prefetch(endless(), 2)
    assert next(items) == 1
    items.close()
    assert closed.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]
