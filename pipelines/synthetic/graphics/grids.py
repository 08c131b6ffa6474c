"""Triangles of surfaces whose vertices form a grid, numbered row by row."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor


def grid_faces(rows: int, columns: int, *, closed: bool = False, ring: bool = False) -> Int64[Tensor, "triangles 3"]:
    """Return two triangles per cell.

    Args:
        closed: join the last column with the first: a tube.
        ring: join the last row with the first as well: a torus.
    """
    index = torch.arange(rows * columns).reshape(rows, columns)
    if ring:
        index = torch.cat([index, index[:1]])
    if closed:
        index = torch.cat([index, index[:, :1]], dim=1)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    return torch.cat([torch.stack([a, b, c], dim=-1).reshape(-1, 3), torch.stack([b, d, c], dim=-1).reshape(-1, 3)])
