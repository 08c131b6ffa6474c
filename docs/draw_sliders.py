"""Draw docs/images/sliders.webp: a portrait with each slider of `sfumato pose` at three values.

`python docs/draw_sliders.py AVATAR [OUT]`
"""

import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.animation.animator import Animator
from training.animation.motion.sliders import SLIDER_RANGES, Sliders
from training.animation.motion.still import draw_still
from training.avatars.avatar import load_avatar

_OUT = Path(__file__).parent / "images" / "sliders.webp"
_TILE, _LABEL = 150, 20  # pixels
_MARGIN = 0.14  # of the crop, that is cut off on each side
_SLIDERS_PER_ROW = 3
_ANGLES = {"pitch": (-18, 9, 18), "yaw": (-25, 12, 25), "roll": (-20, 10, 20)}


def values_of(name: str) -> tuple[float, ...]:
    """Return the three values at which a slider is drawn."""
    lowest, highest = SLIDER_RANGES[name]
    return _ANGLES.get(name, (lowest or 0.33, highest / 2 if lowest else 0.67, highest))


def main(avatar: str, out: Path = _OUT) -> None:
    """Draw the sheet."""
    animator = Animator(load_avatar(avatar), max_size=1000)
    rows = -(-len(SLIDER_RANGES) // _SLIDERS_PER_ROW)
    sheet = Image.new("RGB", (3 * _SLIDERS_PER_ROW * _TILE, rows * (_TILE + _LABEL)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, name in enumerate(SLIDER_RANGES):
        row, column = divmod(number, _SLIDERS_PER_ROW)
        for place, value in enumerate(values_of(name)):
            region = draw_still(animator, Sliders(**{name: value})).region
            crop = region[animator.region.crop, animator.region.crop]
            edge = round(_MARGIN * len(crop))
            crop = np.ascontiguousarray(crop[edge:-edge, edge:-edge])
            tile = cv2.resize(crop, (_TILE, _TILE), interpolation=cv2.INTER_AREA)
            corner = (3 * column + place) * _TILE, row * (_TILE + _LABEL)
            sheet.paste(Image.fromarray(tile), (corner[0], corner[1] + _LABEL))
            pen.text((corner[0] + 4, corner[1] + 2), f"{name} {value:g}", "black", font)
    sheet.save(out, quality=80)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
