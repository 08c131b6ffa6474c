"""W: one embedding row per training video; a step updates only the rows of its batch.

VoxCeleb2 has 145,569 rows; as a dense parameter they would add 298 MB to every optimiser step and all-reduce. Instead,
the batch's rows are gathered as a leaf tensor, workers exchange (id, gradient) pairs, and Adam keeps a step count per
row: with beta1 = 0, a shared count would make the first update of a rarely seen row about thirty times too large.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from training.device import send

_ADAM_EPS = 1e-8


class IdentityRows:
    """Rows keyed by video id, with row-wise Adam (beta1 = 0, hence no first moment).

    Args:
        video_ids: one per row; their order has no meaning outside this object.
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
        return send(torch.tensor([self._index[video_id] for video_id in video_ids]), self.rows.device)

    def gather(self, indices: Int[Tensor, "batch"]) -> Float[Tensor, "batch size"]:
        """Return the batch's rows as a leaf tensor; after backward, pass its `grad` to `apply`."""
        return self.rows[indices].clone().requires_grad_(True)

    def apply(
        self,
        indices: Int[Tensor, "batch"],
        gradients: Float[Tensor, "batch size"],
        finite: Bool[Tensor, ""] | None = None,
    ) -> None:
        """Make one Adam step on the given rows; gradients of a repeated row are summed. Does not wait for the device.

        Args:
            finite: where False, the rows stay as they are.
        """
        gradients = gradients.to(self.rows.dtype)
        # The first place of each row in the batch takes the sum; repetitions then write the same values once more.
        first = (indices[:, None] == indices).to(torch.uint8).argmax(dim=1)
        # index_add_ in a fixed order gives the same sum on every machine and for any number of workers.
        summed = torch.zeros_like(gradients).index_add_(0, first, gradients)[first]
        rows, moments, steps = self.rows[indices], self.second_moments[indices], self.steps[indices]
        new_steps = steps + 1
        new_moments = self.beta2 * moments + (1 - self.beta2) * summed.square()
        unbiased = new_moments / (1 - self.beta2 ** new_steps.double()).to(moments.dtype)[:, None]
        new_rows = rows - self.learning_rate * summed / (unbiased.sqrt() + _ADAM_EPS)
        if finite is not None:
            new_rows, new_moments = torch.where(finite, new_rows, rows), torch.where(finite, new_moments, moments)
            new_steps = torch.where(finite, new_steps, steps)
        self.rows[indices], self.second_moments[indices], self.steps[indices] = new_rows, new_moments, new_steps

    def state(self) -> dict[str, Tensor]:
        return {"rows": self.rows, "second_moments": self.second_moments, "steps": self.steps}

    def load(self, video_ids: Sequence[str], state: dict[str, Tensor]) -> None:
        """Load rows by video id, in any order. Unknown videos are skipped; rows not given keep their initial value."""
        known = [(self._index[video_id], row) for row, video_id in enumerate(video_ids) if video_id in self._index]
        if not known:
            return
        own_rows, loaded_rows = (torch.tensor(column) for column in zip(*known, strict=True))
        for name, own in self.state().items():
            own[own_rows.to(own.device)] = state[name][loaded_rows].to(own.device, own.dtype)


def learned_rows(video_ids: Sequence[str], state: Mapping[str, Tensor]) -> tuple[list[str], dict[str, Tensor]]:
    """Return ids and state of the rows that were updated; the seed determines the others.

    Checkpoints store only these: a run of a thousand steps on a hundred thousand videos has updated few rows.

    Args:
        video_ids: of all rows.
        state: of `IdentityRows.state`.
    """
    rows = torch.nonzero(state["steps"]).flatten()
    return [video_ids[row] for row in rows.tolist()], {name: values[rows] for name, values in state.items()}
