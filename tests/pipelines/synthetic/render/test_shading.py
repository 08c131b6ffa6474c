"""Light on single points, worked out by hand."""

import math

import pytest
import torch

from pipelines.synthetic.render.shading import Lights, Surface, illuminate, shade_hair

FORWARD, UP = (0.0, -1.0, 0.0), (0.0, 0.0, 1.0)  # towards the camera; y points away from it


def one_light(towards: tuple[float, float, float]) -> Lights:
    """A white lamp in an otherwise dark room."""
    directions, colours = torch.zeros(1, 3, 3), torch.zeros(1, 3, 3)
    directions[0, :] = torch.tensor(towards)
    colours[0, 0] = 1.0
    return Lights(directions, colours, torch.zeros(1, 3), torch.zeros(1, 3))


def point(normal: tuple[float, float, float], *, lit: float = 1.0, openness: float = 1.0) -> Surface:
    return Surface(
        torch.tensor([0]),
        torch.tensor([normal]),
        torch.tensor([FORWARD]),
        torch.tensor([lit]),
        torch.tensor([openness]),
    )


def test_a_surface_that_faces_lamp_and_camera_takes_the_whole_light_and_shows_the_whole_highlight() -> None:
    diffuse, highlight, relief = illuminate(point(FORWARD), one_light(FORWARD), 18.0, wrap=False)
    assert diffuse.tolist() == [[1.0, 1.0, 1.0]]
    assert highlight.tolist() == [[1.0, 1.0, 1.0]]
    assert relief.abs().max() < 1e-6


def test_light_falls_with_the_cosine_and_reaches_round_the_edge_of_skin_alone_red_furthest() -> None:
    turned = (math.sin(math.radians(60)), -math.cos(math.radians(60)), 0.0)
    assert illuminate(point(turned), one_light(FORWARD), 18.0, wrap=False)[0][0].tolist() == pytest.approx([0.5] * 3)
    edge = (1.0, 0.0, 0.0)
    assert illuminate(point(edge), one_light(FORWARD), 18.0, wrap=False)[0].tolist() == [[0.0] * 3]
    red, green, blue = illuminate(point(edge), one_light(FORWARD), 18.0)[0][0].tolist()
    assert red > green > blue > 0


def test_a_highlight_falls_with_the_angle_between_the_normal_and_the_half_way_direction() -> None:
    lamp = (math.sin(math.radians(40)), -math.cos(math.radians(40)), 0.0)  # half-way to the camera: 20 degrees
    _, highlight, _ = illuminate(point(FORWARD), one_light(lamp), 18.0, wrap=False)
    assert highlight[0].tolist() == pytest.approx([math.cos(math.radians(20)) ** 18] * 3, rel=1e-5)


def test_in_shadow_and_in_the_dark_nothing_is_seen() -> None:
    diffuse, highlight, _ = illuminate(point(FORWARD, lit=0.0), one_light(FORWARD), 18.0)
    assert diffuse.tolist() == highlight.tolist() == [[0.0] * 3]


def test_ambient_light_is_the_sky_above_and_the_ground_below() -> None:
    lights = Lights(
        torch.zeros(1, 3, 3), torch.zeros(1, 3, 3), torch.tensor([[0.2, 0.4, 0.8]]), torch.full((1, 3), 0.1)
    )
    for normal, expected in (
        (UP, [0.2, 0.4, 0.8]),
        ((0.0, 0.0, -1.0), [0.1, 0.1, 0.1]),
        (FORWARD, [0.15, 0.25, 0.45]),
    ):
        assert illuminate(point(normal), lights, 18.0)[0][0].tolist() == pytest.approx(expected)
    assert illuminate(point(UP, openness=0.5), lights, 18.0)[0][0].tolist() == pytest.approx([0.1, 0.2, 0.4])


def test_relief_says_how_light_changes_with_a_slope_towards_the_lamp() -> None:
    # `left` of a surface that faces the camera is +x. Tilted towards a lamp at 45 degrees there, light rises by as
    # much as it has: cos(45 - a) / cos 45 = 1 + tan a, for small a. Upwards nothing changes.
    lamp = (math.sqrt(0.5), -math.sqrt(0.5), 0.0)
    _, _, relief = illuminate(point(FORWARD), one_light(lamp), 18.0, wrap=False)
    assert relief[0].tolist() == pytest.approx([1.0, 0.0], abs=1e-5)


def test_strands_shine_when_lit_across_and_are_dark_when_lit_along() -> None:
    albedo, plain = torch.full((1, 3), 0.5), torch.zeros(1)
    across = shade_hair(point(FORWARD), one_light(FORWARD), albedo, plain)
    # They hang down: across the light, and the half-way direction, which is the light's. (1.3 / 1.3) each.
    assert across[0].tolist() == pytest.approx([0.5 * 0.85 + 0.25 * 0.5 + 0.025] * 3, rel=1e-5)
    along = shade_hair(point(FORWARD), one_light(UP), albedo, plain)
    # No diffuse light along a strand; half-way up at 45 degrees the shine is (1 - 0.5) ** 30, nothing.
    assert along.abs().max() < 1e-6
