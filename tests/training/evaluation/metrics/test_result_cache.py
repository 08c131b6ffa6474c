"""Results by the content of arrays."""

import numpy as np

from training.evaluation.metrics.result_cache import ResultCache


def test_each_content_is_computed_once_and_results_stay_in_order() -> None:
    cache, asked = ResultCache[float](8), list[list[int]]()
    frames = np.array([[1, 2], [3, 4], [1, 2], [5, 6]], np.uint8)

    def compute(new: list[int]) -> list[float]:
        asked.append(new)
        return [float(frames[index].sum()) for index in new]

    assert cache.get([frames], compute) == [3.0, 7.0, 3.0, 11.0]
    assert cache.get([frames[2:]], compute) == [3.0, 11.0]
    assert asked == [[0, 1, 3]]


def test_what_differs_in_any_part_is_another_item() -> None:
    cache, asked = ResultCache[int](8), list[list[int]]()

    def compute(new: list[int]) -> list[int]:
        asked.append(new)
        return new

    frames, other = np.zeros((2, 4), np.uint8), np.array([[0.0], [1.0]])
    cache.get([frames, other], compute)
    cache.get([frames, other[::-1]], compute)  # the same pairs
    cache.get([frames.reshape(2, 2, 2), other], compute)  # other shapes
    cache.get([frames.astype(np.int8), other], compute)
    assert asked == [[0, 1], [0, 1], [0, 1]]


def test_the_least_recently_used_goes_first_and_a_call_may_exceed_the_size() -> None:
    cache, computed = ResultCache[int](2), list[int]()

    def get(*numbers: int) -> list[int]:
        array = np.array(numbers)[:, None]

        def compute(new: list[int]) -> list[int]:
            computed.extend(array[new, 0].tolist())
            return array[new, 0].tolist()

        return cache.get([array], compute)

    get(1, 2)
    get(1)
    get(3)  # 2 goes
    get(1, 3)
    get(2)
    assert computed == [1, 2, 3, 2]
    assert get(7, 8, 9, 7) == [7, 8, 9, 7]
