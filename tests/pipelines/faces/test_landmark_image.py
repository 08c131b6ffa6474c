from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.faces.landmark_image import RasterConfig, _rasterize_dense, polylines, rasterize, rasterize_batch

Fixture = Callable[..., Any]
CONFIG = RasterConfig()


def jaw_only(y: float, size: int) -> np.ndarray:
    """All points far outside, but the jaw: a horizontal line across the picture at height y."""
    points = np.full((68, 2), -1000.0, np.float32)
    points[:17, 0] = np.linspace(-10, size + 10, 17)
    points[:17, 1] = y
    return points


def test_a_line_through_pixel_centres_covers_as_worked_out_by_hand() -> None:
    # Thickness 2: coverage is clamp(1.5 - distance, 0, 1), so 1 on the line, 0.5 one pixel beside it, 0 at two.
    image = rasterize(jaw_only(100, 256), 256, CONFIG)
    assert (image[100] == 255).all()
    assert (image[[99, 101]] == 128).all()
    assert (image[[98, 102]] == 0).all()


def test_thickness_scales_with_the_image() -> None:
    # At 128 px the line is 1 px thick: clamp(1 - distance, 0, 1).
    image = rasterize(jaw_only(50.25, 128), 128, CONFIG)
    assert image[50, 60, 0] == round(0.75 * 255)
    assert image[51, 60, 0] == round(0.25 * 255)
    assert image[52, 60, 0] == 0


def test_parts_have_the_published_colours(face_points: Fixture) -> None:
    points = face_points(size=180)
    image = rasterize(points, 256, RasterConfig(thickness=3.0))

    def colour(index: int) -> tuple[int, ...]:
        x, y = np.rint(points[index]).astype(int)
        return tuple(int(v) for v in image[y, x])

    assert colour(4) == (255, 255, 255)
    assert colour(19) == (255, 0, 0)
    assert colour(24) == (0, 255, 0)
    assert colour(28) == (0, 0, 255)
    assert colour(33) == (0, 0, 255)
    assert colour(37) == (255, 0, 255)
    assert colour(44) == (0, 255, 255)
    assert colour(51) == (255, 255, 0)


def test_the_inner_lip_is_drawn_when_asked_for(face_points: Fixture) -> None:
    points = face_points(size=180)
    points[60:68] = [[20, 20], [30, 20], [40, 20], [50, 20], [50, 40], [40, 40], [30, 40], [20, 40]]
    assert tuple(rasterize(points, 256, RasterConfig(inner_lip=True))[20, 30]) == (255, 255, 0)
    assert tuple(rasterize(points, 256, RasterConfig(inner_lip=False))[20, 30]) == (0, 0, 0)
    # Closed: from point 67 back to point 60.
    assert tuple(rasterize(points, 256, RasterConfig(inner_lip=True))[30, 20]) == (255, 255, 0)


def test_later_parts_are_painted_over_earlier_ones() -> None:
    points = jaw_only(100, 256)
    points[17:22] = np.stack([np.full(5, 128.0), np.linspace(80, 120, 5)], axis=1)
    assert tuple(rasterize(points, 256, CONFIG)[100, 128]) == (255, 0, 0)


@pytest.mark.parametrize("size", [64, 128])
def test_numpy_and_torch_draw_the_same_picture(size: int, face_points: Fixture) -> None:
    rng = np.random.default_rng(0)
    faces = [face_points(size * s, x=size / 2, y=size / 2) + rng.normal(0, 2, (68, 2)) for s in (0.3, 0.6, 1.3)]
    batch = torch.from_numpy(np.stack(faces).astype(np.float32))
    windows = rasterize_batch(batch, size, CONFIG)
    dense = _rasterize_dense(batch, size, CONFIG)
    assert windows.shape == (3, 3, size, size)
    assert windows.min() == -1
    assert windows.max() > 0.8
    # One of 256 levels: rounding of half-way values may differ between the two.
    assert (windows - dense).abs().max() <= 1 / 127.5 + 1e-6
    assert ((windows - dense).abs() > 1e-6).float().mean() < 1e-3
    single = rasterize(faces[0].astype(np.float32), size, CONFIG)
    assert torch.equal(windows[0], torch.from_numpy(single).permute(2, 0, 1) / 127.5 - 1)


def test_points_outside_are_fine_and_broken_ones_are_not() -> None:
    assert rasterize(np.full((68, 2), 1e9, np.float32), 64, CONFIG).max() == 0
    with pytest.raises(ValueError, match="finite"):
        rasterize(np.full((68, 2), np.nan, np.float32), 64, CONFIG)
    with pytest.raises(ValueError, match="thickness"):
        RasterConfig(thickness=0.0)
    assert rasterize_batch(torch.zeros(0, 68, 2), 64, CONFIG).shape == (0, 3, 64, 64)


def test_the_lines_join_every_landmark_in_the_colours_of_the_picture(face_points: Callable[..., Any]) -> None:
    lines = polylines(RasterConfig())
    assert sorted(point for line in lines for point in line.points) == list(range(68))
    assert sum(line.closed for line in lines) == 4  # eyes and lips
    assert len(polylines(RasterConfig(inner_lip=False))) == len(lines) - 1
    points = face_points()
    picture = rasterize(points, 256, RasterConfig())
    for line in lines:
        middle = points[list(line.points[:2])].mean(axis=0).round().astype(int)
        assert picture[middle[1], middle[0]].tolist() == list(line.colour)
