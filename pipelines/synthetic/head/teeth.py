"""Where teeth stand behind the lips: how much of them is seen where lips part."""

from __future__ import annotations

import torch
from jaxtyping import Float32
from torch import Tensor

from pipelines.synthetic.head.arkit_actions import action_index
from pipelines.synthetic.head.head_model import SKIN, TEETH, TONGUE, HeadModel
from pipelines.synthetic.head.skin import MOUTH

_OVERJET = 0.003  # metres from the upper incisors back to the lower ones
_NARROWER = 0.8  # than the model's lower row, whose molars came through the skin beside a chin that went down
_FRONT = 0.012  # metres from the middle: the incisors
_WITH_THE_JAW = 0.005  # metres: what `jawOpen` moves down by more hangs on the jaw
_NEAR_LIPS = 0.006  # metres around where lips meet
# The model's lower lip goes down .034 m with `jawOpen`, the teeth behind it .027 m: mouths bared all of the lower row.
_JAW = 1.2


class TeethPlacement:
    """Both rows of teeth and the tongue of a head, and the lips that they are seen between."""

    def __init__(self, model: HeadModel) -> None:
        opens = -model.actions[action_index("jawOpen"), :, 2]
        teeth = model.faces[model.parts == TEETH].unique()
        hangs = opens[teeth] > _WITH_THE_JAW
        self._upper, self._lower = teeth[~hangs], teeth[hangs]
        self._jaw = torch.cat([self._lower, model.faces[model.parts == TONGUE].unique()])
        x, y, z = model.template.T
        self._upper_front, self._lower_front = (row[x[row].abs() < _FRONT] for row in (self._upper, self._lower))
        skin = model.faces[model.parts == SKIN].unique()
        middle = skin[(x[skin].abs() < 1e-4) & (y[skin] < y[teeth].min()) & (model.cavity[skin] < 0.5)]
        lips = middle[(z[middle] - MOUTH[1]).abs() < _NEAR_LIPS]
        above, below = lips[opens[lips] < _WITH_THE_JAW], lips[opens[lips] > _WITH_THE_JAW]
        self._upper_lip, self._lower_lip = above[z[above].argmin()], below[z[below].argmax()]

    def place(self, head: Float32[Tensor, "vertices 3"], upper: float, lower: float) -> None:
        """Move the teeth of a head at rest, in place, so that so many metres of them are beyond either lip's edge."""
        height = head[:, 2]
        down = height[self._upper_front].min() - (height[self._upper_lip] - upper)
        up = height[self._lower_lip] + lower - height[self._lower_front].max()
        head[self._upper, 2] -= down
        head[self._jaw, 2] += up
        head[self._jaw, 1] += _OVERJET
        head[self._jaw, 0] *= _NARROWER

    def follow(self, actions: Float32[Tensor, "52 vertices 3"]) -> Float32[Tensor, "52 vertices 3"]:
        """The actions, the lower teeth and the tongue going as far with the jaw as the lip before them."""
        followed = actions.clone()
        followed[action_index("jawOpen"), self._jaw] *= _JAW
        return followed
