"""Pick points by number without waiting for the device that they are on."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor


def pick(points: Float[Tensor, "batch points 2"], numbers: Sequence[int]) -> Float[Tensor, "batch picked 2"]:
    """Return some of the points. A list as an index would be copied to the device in each call, which waits for it."""
    return points.index_select(1, _index(tuple(numbers), points.device))


@lru_cache(maxsize=256)
def _index(numbers: tuple[int, ...], device: torch.device) -> Int[Tensor, "numbers"]:
    with torch.inference_mode(False):  # whoever asks first, autograd may save it
        return torch.tensor(numbers, device=device)


def add_to(
    points: Float[Tensor, "batch points 2"], numbers: Sequence[int], by: Float[Tensor, "batch picked 2"]
) -> None:
    """Add to some of the points in place."""
    points.index_add_(1, _index(tuple(numbers), points.device), by)
