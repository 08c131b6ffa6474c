"""The skin texture of one person: albedo, relief and gloss on an unrolled head.

The atlas is a cylindrical projection of the head model's template: columns are the angle around the head, rows the
height. Features are placed in template coordinates, so that they follow every shape and expression.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from pipelines.synthetic.graphics.noise import smooth_noise, smoothstep, to_linear
from pipelines.synthetic.graphics.rasterizer import rasterize
from pipelines.synthetic.head.head_model import SKIN, load_head_model
from pipelines.synthetic.head.person import Person, generator

SIZE = 512
AXIS_Y = -0.03  # y of the cylinder's axis, metres
REACH = math.radians(120)  # to either side of the nose
LOW, HIGH = 0.555, 0.862  # heights on the template in metres: below the chin, the crown
_EYE = (0.0308, 0.7284)  # x and z of the eyeballs' centres
MOUTH = (0.0245, 0.6603)  # half its width, and the height of the lips' line
NUM_CHANNELS = 6
"""Red, green and blue (linear), slope along columns and rows, gloss."""


def atlas_coordinates(template: Float[Tensor, "*points 3"]) -> tuple[Tensor, Tensor]:
    """Return the atlas column and row, 0..1 inside the atlas, of points on the template."""
    around = torch.atan2(template[..., 0], AXIS_Y - template[..., 1])
    return around / (2 * REACH) + 0.5, (HIGH - template[..., 2]) / (HIGH - LOW)


@lru_cache(maxsize=1)
def _layout() -> Float32[Tensor, "3 size size"]:
    """Return the template coordinates of every texel."""
    model = load_head_model()
    faces = model.faces[model.parts == SKIN]
    u, v = atlas_coordinates(model.template)
    radius = torch.hypot(model.template[:, 0], model.template[:, 1] - AXIS_Y)
    corners = torch.stack([u * SIZE, v * SIZE, radius.clamp(1e-3, 0.3) / 0.3], dim=-1)[None]
    whole = (u[faces].amax(dim=1) - u[faces].amin(dim=1)) < 0.4  # drops triangles that cross the seam at the back
    found = rasterize(corners, faces[whole], SIZE, SIZE, two_sided=True)
    texels = torch.tensor([0.0, 0.2, LOW]).repeat(SIZE * SIZE, 1)
    corner = faces[whole][found.triangles]
    texels[found.pixels] = (model.template[corner] * found.weights[..., None]).sum(dim=1)
    return texels.T.reshape(3, SIZE, SIZE)


def beard_masks(x: Tensor, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return masks in 0..1 of beard and moustache, by template coordinates."""
    side = x.abs()
    cheek = 0.668 + 0.055 * smoothstep(0.045, 0.068, side)  # the line from the mouth's corner up to the ear
    jaw = smoothstep(0.006, -0.006, z - cheek) * smoothstep(0.598, 0.612, z) * smoothstep(0.02, -0.01, y)
    mouth = ((x / 0.026) ** 2 + ((z - 0.660) / 0.0115) ** 2).sqrt()
    jaw = jaw * smoothstep(0.9, 1.15, mouth)
    lip = smoothstep(0.028, 0.022, side) * smoothstep(0.6685, 0.671, z) * smoothstep(0.683, 0.678, z)
    corner = smoothstep(0.009, 0.004, (side - 0.026).abs()) * smoothstep(0.645, 0.65, z) * smoothstep(0.683, 0.676, z)
    return jaw * (1 - smoothstep(0.668, 0.672, z) * smoothstep(0.04, 0.03, side)), torch.maximum(
        lip, corner
    ) * smoothstep(0.9, 1.1, mouth)


def paint_skin(person: Person) -> Float32[Tensor, "channels size size"]:
    """Paint the atlas of a person, with `NUM_CHANNELS` channels."""
    x, y, z = _layout()
    rng = generator(*person.seed, "skin")
    skin, hair = person.skin, person.hair
    side = x.abs()
    albedo = to_linear(torch.from_numpy(skin.tone))[:, None, None].expand(3, SIZE, SIZE).clone()
    mottle = smooth_noise(rng, (SIZE, SIZE), (14, 14), 4)
    fine = smooth_noise(rng, (SIZE, SIZE), (150, 200), 2)
    albedo *= 1 + 0.035 * mottle + (0.015 + 0.03 * skin.pores) * fine
    albedo = _redden(albedo, x, z, skin.red, mottle)
    if skin.freckles > 0.05:
        spots = smoothstep(1.6 - 0.7 * skin.freckles, 2.4, smooth_noise(rng, (SIZE, SIZE), (90, 120)) + 0.4 * mottle)
        where = smoothstep(0.075, 0.02, ((x / 1.3) ** 2 + (z - 0.703) ** 2).sqrt()) * 0.8 + 0.15
        albedo = albedo * (1 - (spots * where * 0.6)[None] * torch.tensor([0.35, 0.6, 0.75])[:, None, None])
    for _ in range(rng.poisson(1.5)):  # moles
        at = (rng.uniform(-0.06, 0.06), rng.uniform(0.63, 0.78), rng.uniform(0.0008, 0.0018))
        spot = smoothstep(at[2] * 1.3, at[2] * 0.7, torch.hypot(x - at[0], z - at[1])) * (y < -0.06)
        albedo = albedo * (1 - 0.65 * spot)
    lip = _lips(x, y, z)
    tint = torch.from_numpy(skin.lips)[:, None, None]
    albedo = albedo * (1 - lip) + albedo * to_linear(tint) * lip
    lid = smoothstep(0.019, 0.006, torch.hypot((side - _EYE[0]) / 1.25, z - _EYE[1] - 0.007)) * (z > _EYE[1])
    albedo = albedo * (1 + lid * (torch.from_numpy(skin.shadow)[:, None, None] - 1))
    bag = smoothstep(0.008, 0.0, (torch.hypot((side - _EYE[0]) / 1.3, z - _EYE[1]) - 0.017).abs()) * (z < _EYE[1])
    albedo = albedo * (1 - (0.05 + 0.14 * skin.wrinkles) * bag)
    lined = smoothstep(1.25, 0.98, torch.hypot((side - 0.0335) / 0.0155, (z - 0.7275) / 0.0082))
    albedo = albedo * (1 - 0.55 * skin.lashes * lined)
    dark = to_linear(torch.from_numpy(hair.colour)) * 0.8
    hairs = _hairs(rng, person, x, y, z)
    albedo = albedo * (1 - hairs) + dark[:, None, None] * hairs
    relief = 0.00003 * (0.3 + skin.pores) * fine + _wrinkles(rng, skin.wrinkles, x, z) + 0.0001 * hairs * fine
    gloss = (
        (0.25 + 0.5 * skin.gloss) * (1 + 0.5 * smoothstep(0.04, 0.0, torch.hypot(side, z - 0.7))) * (1 - 0.7 * hairs)
    )
    gloss = gloss * (1 + 1.2 * lip) * (1 + 0.2 * fine)
    return torch.cat([albedo.clamp(0.004, 0.95), _slopes(relief), gloss.clamp(0, 1.5)[None]])


def _lips(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Return the mask of the lips."""
    across = (x / MOUTH[0]).abs()
    bow = 0.0009 * torch.exp(-((x / 0.0035) ** 2))  # the dip of Cupid's bow
    top = 0.0092 * (1 - across.clamp(max=1) ** 2.2) ** 0.8 - bow
    bottom = 0.0098 * (1 - across.clamp(max=1) ** 2.6) ** 0.7
    height = z - MOUTH[1]
    inside = smoothstep(0.0008, -0.0008, height - top) * smoothstep(-0.0008, 0.0008, height + bottom)
    return inside * smoothstep(1.03, 0.95, across) * (y < -0.08)


def _redden(albedo: Tensor, x: Tensor, z: Tensor, amount: float, mottle: Tensor) -> Tensor:
    """Redden cheeks, nose, ears and lids."""
    cheeks = torch.exp(-(((x.abs() - 0.043) / 0.02) ** 2) - ((z - 0.698) / 0.017) ** 2)
    nose = torch.exp(-((x / 0.016) ** 2) - ((z - 0.694) / 0.013) ** 2)
    ears = smoothstep(0.066, 0.072, x.abs()) * smoothstep(0.67, 0.69, z) * smoothstep(0.76, 0.74, z)
    eyes = 0.5 * torch.exp(-(((x.abs() - _EYE[0]) / 0.02) ** 2) - ((z - _EYE[1]) / 0.012) ** 2)
    blood = (cheeks + 0.8 * nose + 0.7 * ears + eyes).clamp(0, 1) * (0.25 + 0.6 * amount) * (1 + 0.15 * mottle)
    return albedo * (1 - blood[None] * torch.tensor([0.04, 0.26, 0.24])[:, None, None])


def _hairs(rng: np.random.Generator, person: Person, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Return each texel's share of hair: brows, stubble, beard, moustache and shaved scalp."""
    skin, hair = person.skin, person.hair
    side, front = x.abs(), (y < -0.05).float()
    speckle = smooth_noise(rng, (SIZE, SIZE), (170, 256))
    strokes = smooth_noise(rng, (SIZE, SIZE), (120, 200)) + 0.5 * speckle
    along = (side - 0.012) / 0.044  # 0 at the brow's inner end, 1 at its tail
    middle = (
        0.747
        + 0.002 * skin.brow_arch
        + (0.003 + 0.005 * skin.brow_arch) * torch.sin(along.clamp(0, 1.1) * 2.4)
        - 0.005 * along**2
    )
    half = (0.0022 + 0.0036 * skin.brow) * (1 - 0.75 * along.clamp(0, 1) ** 2) * smoothstep(-0.06, 0.12, along)
    ends = smoothstep(-0.08, 0.06, along) * smoothstep(1.08, 0.85, along)
    brow = smoothstep(1.25, 0.45, (z - middle).abs() / half.clamp(min=1e-4)) * ends
    brow = brow * (0.55 + 0.35 * skin.brow) * (1 + 0.2 * strokes).clamp(0.3, 1.4)
    jaw, lip = beard_masks(x, z, y)
    grown = jaw * max(skin.beard, 0.0) + lip * max(skin.moustache, skin.beard * 0.8)
    stubble = torch.maximum(jaw, lip) * 0.42 * skin.stubble * (1 + 0.6 * speckle).clamp(0, 2)
    beard = (grown * (1.15 + 0.22 * strokes)).clamp(0, 0.95)
    shorn = smoothstep(0.782, 0.797, z + 0.002 * speckle + 0.35 * (y + 0.105).clamp(min=0))
    shorn = shorn * {"bald": 0.12, "buzz": 0.85}.get(hair.style, 0.55) * (1 + 0.3 * speckle).clamp(0, 1.6)
    painted = torch.stack([brow * front, beard * front, stubble * front, shorn]).clamp(0, 0.97)
    return painted.amax(dim=0)


def _wrinkles(rng: np.random.Generator, amount: float, x: Tensor, z: Tensor) -> Tensor:
    """Return the relief of wrinkles on forehead, eyes and cheeks, in metres."""
    bend = 0.0025 * smooth_noise(rng, (SIZE, SIZE), (5, 9))
    forehead = (
        torch.cos((z + bend + 0.12 * x**2) * 2 * math.pi / 0.0085)
        * smoothstep(0.758, 0.768, z)
        * smoothstep(0.797, 0.785, z)
    )
    forehead = forehead * smoothstep(0.05, 0.03, x.abs())
    feet = (
        torch.cos(torch.atan2(z - _EYE[1], x.abs() - 0.04) * 14)
        * smoothstep(0.051, 0.056, x.abs())
        * smoothstep(0.07, 0.06, x.abs())
    )
    feet = feet * smoothstep(0.02, 0.008, (z - _EYE[1]).abs())
    fold = (x.abs() - 0.022 - 0.35 * (0.694 - z)).abs() + bend.abs() * 0.3  # from the nostril to the mouth's corner
    fold = -smoothstep(0.004, 0.0, fold) * smoothstep(0.648, 0.66, z) * smoothstep(0.699, 0.69, z)
    return amount * (0.00022 * forehead + 0.0002 * feet) + (0.0001 + 0.0007 * amount) * fold


def _slopes(relief: Tensor) -> Float32[Tensor, "2 size size"]:
    """Return the slope along columns and rows of the atlas, clamped to 0.8."""
    columns = 2 * REACH * 0.09 / SIZE  # metres per texel at the face
    rows = (HIGH - LOW) / SIZE
    down, right = torch.gradient(relief, spacing=1.0)
    return torch.stack([right / columns, down / rows]).clamp(-0.8, 0.8)
