"""Warps of several shots as one batch of the generator."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate, pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from training.models.generator import Composite, GeneratedFrame
from training.warp.apply import WarpInput
from training.warp.field import WarpField


class JoinedWarp:
    """A `training.warp.apply.WarpInput` of the parts' batches, one after another.

    Each part warps its own shot, of any resolution; the generator's input has one size for all.
    """

    def __init__(self, parts: Sequence[WarpInput]) -> None:
        self.parts = parts
        self.field = WarpField.spline_only(torch.cat([part.field.spline for part in parts]))
        """The splines alone: eyes and mouth are moved by the parts' fields."""
        self._moved: list[WarpField] | None = None

    @cached_property
    def slices(self) -> list[slice]:
        """Where the parts lie in the batch."""
        ends = accumulate((len(part.field.spline) for part in self.parts), initial=0)
        return [slice(first, last) for first, last in pairwise(ends)]

    @property
    def frame(self) -> Float[Tensor, "batch 4 h w"]:
        return torch.cat([part.frame for part in self.parts])

    @property
    def landmark_image(self) -> Float[Tensor, "batch 3 h w"]:
        return torch.cat([part.landmark_image for part in self.parts])

    @property
    def matte(self) -> Float[Tensor, "batch 1 h w"]:
        return torch.cat([part.matte for part in self.parts])

    def moved(self, field: WarpField) -> Float[Tensor, "batch 4 h w"]:
        """Warp each part with its share of another field."""
        self._moved = self._split(field)
        return torch.cat([part.moved(own) for part, own in zip(self.parts, self._moved, strict=True)])

    def displacement(self, field: WarpField) -> Float[Tensor, "batch h w 2"]:
        """Return how far a field, this one or that of the last `moved`, moves each pixel."""
        is_own = field is self.field or self._moved is None
        fields = [part.field for part in self.parts] if is_own else self._moved or []
        return torch.cat([part.displacement(own) for part, own in zip(self.parts, fields, strict=True)])

    def split(self, generated: GeneratedFrame) -> list[GeneratedFrame]:
        """Return each part's share of what the generator makes of this batch."""
        assert generated.parts is not None
        whole, fields = generated.parts, self._split(generated.parts.field)
        return [
            GeneratedFrame(
                generated.frame[own], Composite(whole.moved[own], field, whole.alpha[own], whole.colour[own])
            )
            for own, field in zip(self.slices, fields, strict=True)
        ]

    def _split(self, field: WarpField) -> list[WarpField]:
        return [part.field.with_spline(field.spline[own]) for part, own in zip(self.parts, self.slices, strict=True)]
