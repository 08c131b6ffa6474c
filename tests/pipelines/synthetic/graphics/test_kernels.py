"""Loops over pixels and vertices, held against torch's own and against cases worked out by hand."""

import pytest
import torch
from torch.nn import functional

from pipelines.synthetic.graphics import kernels


@pytest.mark.slow
@pytest.mark.parametrize(("side", "size"), [(10, 8), (7, 5), (80, 64), (9, 3), (6, 6)])
def test_a_picture_shrinks_to_the_mean_of_what_each_pixel_lies_on(side: int, size: int) -> None:
    fine = torch.rand(2, side, side, 3, generator=torch.Generator().manual_seed(0))
    number, result = torch.arange(size), torch.empty(2 * 3 * size, size)
    starts, ends = number * side // size, -(-(number + 1) * side // size)
    kernels.launch(kernels.area_downsample, (2, size), fine.reshape(-1, 3), starts, ends, side, result)
    expected = functional.adaptive_avg_pool2d(fine.permute(0, 3, 1, 2), size)
    torch.testing.assert_close(result.reshape(2, 3, size, size), expected, rtol=0, atol=1e-6)


def test_a_vertex_sees_the_share_of_the_light_that_nothing_nearer_hides() -> None:
    depth = torch.zeros(2, 4, 4)
    depth[0, :, 2:] = 0.8  # in the first frame something near hides the light from the right half
    seen = torch.tensor([[[0.5, 0.5], [3.5, 0.5], [1.5, 1.5]]]).expand(2, -1, -1).contiguous()
    limit = torch.tensor([[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]])
    taps = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    lit = torch.empty(2, 3)
    kernels.launch(kernels.light_visibility, lit.shape, depth, seen, limit, taps, torch.tensor([1.0, 1.0]), lit)
    # The third vertex of the first frame lies beside the edge: one of its four taps reaches over it.
    assert lit.tolist() == [[1.0, 0.0, 0.75], [1.0, 1.0, 1.0]]
