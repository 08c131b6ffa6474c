"""Make pictures of faces that are hard to animate, by their numbers in the list of bad inputs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pipelines import assets
from pipelines.media.images import read_image
from pipelines.media.video import decode

SIDE = 256
"""Side of the pictures of one face, pixels."""


def make_faces(folder: Path) -> None:
    """Write every picture to a folder, as NUMBER WHAT.png."""
    painting = square(read_image(str(assets.fetch("mona_lisa")))[:743])
    astronaut = read_image(str(assets.fetch("astronaut")))[20:276, 100:356]
    (blink,) = frames("clip_langer", 90)
    occluded = painting.copy()
    occluded[70:110] = 30
    small = cv2.resize(astronaut, (96, 96), interpolation=cv2.INTER_AREA)
    sepia = (astronaut @ np.array([0.3, 0.59, 0.11]))[..., None] * (1.0, 0.85, 0.65)
    pictures = {
        "13 none": np.random.default_rng(0).integers(0, 255, painting.shape),
        "14 painting": painting,
        "15 two": np.hstack([painting, astronaut]),
        "15 twenty": np.tile(small, (4, 5, 1)),
        "16 profile": _profile(65.0),
        "16 profile away": _profile(85.0),
        "17 on its side": np.rot90(astronaut),
        "17 upside down": np.rot90(astronaut, 2),
        "18 cut by the border": astronaut[:, 120:],
        "19 12 px": cv2.resize(astronaut, (40, 40), interpolation=cv2.INTER_AREA),
        "20 filling the picture": astronaut[60:180, 70:190],
        "21 occluded": occluded,
        "21 somebody": astronaut,
        "22 closed eyes": blink,
        "23 dark": astronaut // 6,
        "23 low contrast": 110 + astronaut * 0.12,
        "23 sepia": sepia,
        "23 cracked": _cracked(painting),
    }
    for name, picture in pictures.items():
        Image.fromarray(np.ascontiguousarray(picture, np.uint8)).save(folder / f"{name}.png")


def frames(clip: str, *numbers: int) -> list[np.ndarray]:
    """The middle square of frames of a clip."""
    return [square(frame.image) for frame in decode(assets.fetch(clip), frame_indices=numbers)]


def square(image: np.ndarray) -> np.ndarray:
    """The middle of a picture, at 256 pixels."""
    height, width = image.shape[:2]
    side, top, left = min(height, width), max(height - width, 0) // 2, max(width - height, 0) // 2
    middle = image[top : top + side, left : left + side]
    return np.asarray(cv2.resize(middle, (SIDE, SIDE), interpolation=cv2.INTER_AREA))


def _profile(yaw: float) -> np.ndarray:
    """A synthetic person whose head is turned by so many degrees."""
    from pipelines.synthetic.corpus.corpus import CorpusConfig, plan_clips
    from pipelines.synthetic.corpus.render_clips import draw_clip
    from pipelines.synthetic.motion.motion import Motion
    from pipelines.synthetic.render.renderer import Renderer

    config = CorpusConfig(identities=2, videos=1, size=SIDE, motion="procedural")
    _, spec = plan_clips(config)
    person, scene, motion = draw_clip(spec, config, ())
    angles = np.zeros_like(motion.angles[:1])
    angles[0, 0] = yaw
    turned = Motion(motion.fps, 0 * motion.actions[:1], angles, 0 * motion.travel[:1])
    return np.asarray(Renderer(SIDE).frames([person], [scene], [turned]).images.numpy()[0])


def _cracked(painting: np.ndarray) -> np.ndarray:
    """A painting with a net of dark cracks, 2 pixels wide."""
    cracked, random = painting.copy(), np.random.default_rng(1)
    for _ in range(25):
        line = np.cumsum(np.vstack([random.uniform(0, SIDE, 2), random.normal(0, 14, (14, 2))]), axis=0)
        cv2.polylines(cracked, [line.astype(np.int32)], False, (60, 45, 30), 2)
    return cracked
