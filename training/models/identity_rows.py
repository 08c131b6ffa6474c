"""W: one embedding row per training video, of which a step touches only the batch's.

VoxCeleb2 has 145,569 rows; a dense parameter would put 298 MB through every optimiser step and all-reduce. Here the
rows of the batch are gathered as a leaf, their gradients exchanged as (id, gradient) pairs, and Adam keeps a step count
per row: with beta1 = 0 a shared count would move a rarely seen row about thirty times too far on its first visit.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

_ADAM_EPS = 1e-8


class IdentityRows:
    """Rows keyed by video id, with row-wise Adam (beta1 = 0, so there is no first moment to keep).

    Args:
        video_ids: one per row; the order is the table's own and means nothing to the outside.
        size: N, the embedding's size.
    """

    def __init__(
        self, video_ids: Sequence[str], size: int, *, learning_rate: float, beta2: float = 0.999, seed: int = 0
    ) -> None:
        if len(set(video_ids)) != len(video_ids):
            raise ValueError("video ids of identity rows must be distinct")
        self.video_ids = tuple(video_ids)
        self.learning_rate, self.beta2 = learning_rate, beta2
        generator = torch.Generator().manual_seed(seed)
        self.rows = torch.randn(len(video_ids), size, generator=generator) * 0.02
        self.second_moments = torch.zeros(len(video_ids), size)
        self.steps = torch.zeros(len(video_ids), dtype=torch.int64)
        self._index = {video_id: row for row, video_id in enumerate(self.video_ids)}

    def to(self, device: torch.device) -> "IdentityRows":
        self.rows, self.second_moments = self.rows.to(device), self.second_moments.to(device)
        self.steps = self.steps.to(device)
        return self

    def indices(self, video_ids: Sequence[str]) -> Int[Tensor, "batch"]:
        return torch.tensor([self._index[video_id] for video_id in video_ids], device=self.rows.device)

    def gather(self, indices: Int[Tensor, "batch"]) -> Float[Tensor, "batch size"]:
        """The batch's rows as a leaf: call backward, then hand `leaf.grad` to `apply`."""
        return self.rows[indices].clone().requires_grad_(True)

    def apply(self, indices: Int[Tensor, "batch"], gradients: Float[Tensor, "batch size"]) -> None:
        """One Adam step on the rows named; gradients of a row named twice add up."""
        unique, inverse = torch.unique(indices, return_inverse=True)
        summed = torch.zeros(len(unique), gradients.shape[1], device=gradients.device, dtype=self.rows.dtype)
        # index_add_ in a fixed order keeps the sum the same on every machine and worker count.
        summed.index_add_(0, inverse, gradients.to(self.rows.dtype))
        steps = self.steps[unique] + 1
        moments = self.beta2 * self.second_moments[unique] + (1 - self.beta2) * summed.square()
        unbiased = moments / (1 - self.beta2 ** steps.double()).to(moments.dtype)[:, None]
        self.rows[unique] -= self.learning_rate * summed / (unbiased.sqrt() + _ADAM_EPS)
        self.second_moments[unique], self.steps[unique] = moments, steps

    def state(self) -> dict[str, Tensor]:
        return {"rows": self.rows, "second_moments": self.second_moments, "steps": self.steps}

    def learned(self) -> tuple[list[str], dict[str, Tensor]]:
        """Ids and state of the rows that a step has touched; the others stand where the seed put them.

        A checkpoint needs no more. A run of a thousand steps on a hundred thousand videos has seen few of them.
        """
        rows = torch.nonzero(self.steps).flatten()
        return [self.video_ids[row] for row in rows.tolist()], {name: t[rows] for name, t in self.state().items()}

    def load(self, video_ids: Sequence[str], state: dict[str, Tensor]) -> None:
        """Take over rows by video id: the order may differ, unknown videos are left out, new ones keep their start."""
        known = [(self._index[video_id], row) for row, video_id in enumerate(video_ids) if video_id in self._index]
        if not known:
            return
        here, there = (torch.tensor(column) for column in zip(*known, strict=True))
        for name, mine in self.state().items():
            mine[here.to(mine.device)] = state[name][there].to(mine.device, mine.dtype)
