"""Placement of the teeth behind the lips, which decides how much of them an open mouth shows."""

from __future__ import annotations

import torch
from jaxtyping import Float32
from torch import Tensor

from pipelines.synthetic.head.arkit_actions import action_index
from pipelines.synthetic.head.head_model import SKIN, TEETH, TONGUE, HeadModel
from pipelines.synthetic.head.skin import MOUTH

_OVERJET = 0.003  # metres by which the lower incisors are behind the upper ones
_LOWER_ROW_WIDTH = 0.8  # of the model's; at full width its molars pierce the cheeks when the jaw opens
_FRONT = 0.012  # metres from the middle to either side: the incisors
_MOVES_WITH_JAW = 0.005  # metres; vertices that `jawOpen` lowers by more belong to the jaw
_NEAR_LIPS = 0.006  # metres above and below the line between the lips
# With `jawOpen` the model's lower lip moves down 0.034 m, but the lower teeth only 0.027 m, which would expose the
# whole lower row.
_JAW_GAIN = 1.2


class TeethPlacement:
    """The vertices of both rows of teeth, the tongue and the lips' edges."""

    def __init__(self, model: HeadModel) -> None:
        opens = -model.actions[action_index("jawOpen"), :, 2]
        teeth = model.faces[model.parts == TEETH].unique()
        on_jaw = opens[teeth] > _MOVES_WITH_JAW
        self._upper, self._lower = teeth[~on_jaw], teeth[on_jaw]
        self._jaw = torch.cat([self._lower, model.faces[model.parts == TONGUE].unique()])
        x, y, z = model.template.T
        self._upper_front, self._lower_front = (row[x[row].abs() < _FRONT] for row in (self._upper, self._lower))
        skin = model.faces[model.parts == SKIN].unique()
        middle = skin[(x[skin].abs() < 1e-4) & (y[skin] < y[teeth].min()) & (model.cavity[skin] < 0.5)]
        lips = middle[(z[middle] - MOUTH[1]).abs() < _NEAR_LIPS]
        above, below = lips[opens[lips] < _MOVES_WITH_JAW], lips[opens[lips] > _MOVES_WITH_JAW]
        self._upper_lip, self._lower_lip = above[z[above].argmin()], below[z[below].argmax()]

    def place(self, head: Float32[Tensor, "vertices 3"], upper: float, lower: float) -> None:
        """Move the teeth of a head at rest, in place: they extend `upper` and `lower` metres beyond the lips' edges."""
        height = head[:, 2]
        down = height[self._upper_front].min() - (height[self._upper_lip] - upper)
        up = height[self._lower_lip] + lower - height[self._lower_front].max()
        head[self._upper, 2] -= down
        head[self._jaw, 2] += up
        head[self._jaw, 1] += _OVERJET
        head[self._jaw, 0] *= _LOWER_ROW_WIDTH

    def fit_actions(self, actions: Float32[Tensor, "52 vertices 3"]) -> Float32[Tensor, "52 vertices 3"]:
        """Return the actions with the lower teeth and the tongue moving as far with the jaw as the lower lip."""
        followed = actions.clone()
        followed[action_index("jawOpen"), self._jaw] *= _JAW_GAIN
        return followed
