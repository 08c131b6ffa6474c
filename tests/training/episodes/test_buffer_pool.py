import gc

import numpy as np
import pytest
import torch

from training.episodes.buffer_pool import BufferPool


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


@pytest.mark.slow
def test_memory_is_used_again_when_nobody_holds_it() -> None:
    recycler = BufferPool()
    first = recycler.take(2, 3, 4)
    assert (first.shape, first.dtype) == ((2, 3, 4), np.uint8)
    place = address(first)
    second = recycler.take(2, 3, 4)
    assert address(second) != place
    del first
    gc.collect()
    assert address(recycler.take(4, 6)) == place


@pytest.mark.slow
def test_a_view_or_a_tensor_keeps_the_memory() -> None:
    recycler = BufferPool()
    array = recycler.take(4, 4)
    array[:] = 7
    held = [array.reshape(2, 8)[1], torch.from_numpy(array)[0]]
    place = address(array)
    del array
    for _ in range(2):
        gc.collect()
        other = recycler.take(4, 4)
        assert address(other) != place
        other[:] = 1
        assert np.asarray(held.pop()).tolist() in ([7] * 8, [7] * 4)
    del other
    gc.collect()
    again = [recycler.take(4, 4) for _ in range(2)]
    assert place in map(address, again)


def test_other_sizes_get_memory_of_their_own() -> None:
    recycler = BufferPool()
    recycler.take(4)
    assert recycler.take(9).shape == (9,)
