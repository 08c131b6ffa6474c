"""Warp kernel that shades pixels of skin, clothes, mouth and glasses, which takes most of the rendering time.

Eyes, hair and lashes cover few pixels and are shaded in torch: see `renderer`.
"""

import warp as wp

from pipelines.synthetic.graphics.kernels import (
    OPTIONS,
    bilinear,
    function,
    interpolate_vertices,
    kernel,
    texel_coordinate,
)
from pipelines.synthetic.head.head_model import SKIN, TEETH
from pipelines.synthetic.head.mesh import EYES, GLASSES
from pipelines.synthetic.head.skin import AXIS_Y, HIGH, LOW, REACH
from pipelines.synthetic.render.background import CLOTH_HIGH, CLOTH_LOW, CLOTH_X

wp.set_module_options(OPTIONS)

_GLASSES_GLOSS = 0.4
_SKIN_GLOSS = 0.28
_MAX_RELIEF = 0.6  # largest relative change of light by fine relief


@kernel
def paint(
    pixels: wp.array[wp.int64],
    triangles: wp.array[wp.int64],
    weights: wp.array2d[float],
    faces: wp.array2d[wp.int64],
    parts: wp.array[wp.int64],
    table: wp.array3d[float],
    pixels_per_frame: int,
    rows: wp.array[wp.int64],
    skin: wp.array4d[float],
    cloth: wp.array4d[float],
    glasses: wp.array2d[float],
    colour: wp.array2d[float],
) -> None:
    """Per fragment except eyes: store its colour, in linear light, in its pixel.

    `table` holds vertex values: diffuse light (3), highlight (3), relief (2: change of light per slope), position on
    the template (3) and 1 in the mouth. `parts` belong to triangles; `rows` are the indices of a frame's `skin` and
    `cloth` textures.
    """
    fragment = wp.tid()
    triangle = int(triangles[fragment])
    part = int(parts[triangle])
    if part == EYES:
        return
    pixel = int(pixels[fragment])
    frame = pixel // pixels_per_frame
    shares = wp.vec3(weights[fragment, 0], weights[fragment, 1], weights[fragment, 2])
    diffuse = _three(table, faces, triangle, frame, shares, 0)
    highlight = _three(table, faces, triangle, frame, shares, 3)
    place = _three(table, faces, triangle, frame, shares, 8)
    albedo = wp.vec3(glasses[frame, 0], glasses[frame, 1], glasses[frame, 2])
    gloss = _GLASSES_GLOSS
    if part == SKIN:
        row = int(rows[frame])
        x, y, z = place[0], place[1], place[2]
        # As `skin.atlas_coordinates`.
        across = texel_coordinate(wp.atan2(x, AXIS_Y - y) / (2.0 * REACH) + 0.5, skin.shape[2])
        down = texel_coordinate((HIGH - z) / (HIGH - LOW), skin.shape[1])
        albedo = _colour(skin, row, across, down)
        slope = wp.vec2(bilinear(skin, row, across, down, 3), bilinear(skin, row, across, down, 4))
        gloss = bilinear(skin, row, across, down, 5) * _SKIN_GLOSS
        if z < 0.64:
            across = texel_coordinate(x / (2.0 * CLOTH_X) + 0.5, cloth.shape[2])
            down = texel_coordinate(
                (CLOTH_HIGH - z - 0.35 * wp.abs(y + 0.02)) / (CLOTH_HIGH - CLOTH_LOW), cloth.shape[1]
            )
            worn = bilinear(cloth, row, across, down, 3) * wp.smoothstep(0.64, 0.62, z)
            albedo = wp.lerp(albedo, _colour(cloth, row, across, down), worn)
            gloss = gloss * (1.0 - 0.9 * worn)
            slope = slope * (1.0 - worn)
        within = interpolate_vertices(table, faces, triangle, frame, shares, 11)
        if within > 0.25:
            albedo = wp.lerp(albedo, _throat(y), wp.smoothstep(0.25, 0.75, within))
        change = slope[0] * interpolate_vertices(table, faces, triangle, frame, shares, 6)
        change = change + slope[1] * interpolate_vertices(table, faces, triangle, frame, shares, 7)
        albedo = albedo * (1.0 + wp.clamp(change, -_MAX_RELIEF, _MAX_RELIEF))
    elif part != GLASSES:
        albedo = _throat(place[1])
        if part == TEETH:
            albedo = _teeth(place)
        gloss = albedo[0] * 0.12
    for channel in range(3):
        colour[pixel, channel] = albedo[channel] * diffuse[channel] + gloss * highlight[channel]


@function
def _three(
    table: wp.array3d[float], faces: wp.array2d[wp.int64], triangle: int, frame: int, shares: wp.vec3, channel: int
) -> wp.vec3:
    return wp.vec3(
        interpolate_vertices(table, faces, triangle, frame, shares, channel),
        interpolate_vertices(table, faces, triangle, frame, shares, channel + 1),
        interpolate_vertices(table, faces, triangle, frame, shares, channel + 2),
    )


@function
def _colour(pictures: wp.array4d[float], row: int, x: float, y: float) -> wp.vec3:
    return wp.vec3(bilinear(pictures, row, x, y, 0), bilinear(pictures, row, x, y, 1), bilinear(pictures, row, x, y, 2))


@function
def _deep(y: float) -> float:
    """Return the share of light that reaches a depth in the mouth."""
    return float(wp.exp(-30.0 * wp.max(y + 0.146, 0.0)))


@function
def _throat(y: float) -> wp.vec3:
    """Return the albedo of tongue, palate and cheeks."""
    return wp.vec3(0.42, 0.13, 0.12) * wp.max(_deep(y), 0.03)


@function
def _teeth(place: wp.vec3) -> wp.vec3:
    """Return the albedo of teeth, gaps and gums."""
    tooth = place[0] / 0.0072
    gap = wp.abs(tooth - wp.floor(tooth) - 0.5)
    white = wp.vec3(0.74, 0.69, 0.58) * (1.0 - 0.45 * wp.smoothstep(0.42, 0.5, gap))
    gum = wp.max(wp.smoothstep(0.6745, 0.6765, place[2]), wp.smoothstep(0.6515, 0.6495, place[2]))
    return wp.lerp(white, wp.vec3(0.5, 0.2, 0.18), gum) * _deep(place[1])
