"""Convert a video to a small animated WebP for a README or a web page.

Pillow encodes it: OpenCV, which encodes still WebPs in `images`, cannot write animations.
"""

import os
from pathlib import Path

import cv2
from PIL import Image

from pipelines.media.video import decode, probe

_FPS = 12
_WIDTH = 600
_MAX_SECONDS = 8.0
_QUALITY = 60


def write_animated_webp(video: Path, out: Path, *, start_s: float = 0.0) -> None:
    """Write up to 8 s of `video` at 12 frames/s, 600 px wide, as a looping WebP.

    Raises:
        ValueError: `video` is not a video, or ends before `start_s`.
    """
    info = probe(video)
    step = max(round(info.fps / _FPS), 1)
    first, max_frames = round(start_s * info.fps), round(_MAX_SECONDS * info.fps)
    height = round(info.height * _WIDTH / info.width)
    pictures = []
    for frame in decode(video):
        if frame.index >= first + max_frames:
            break
        if frame.index >= first and (frame.index - first) % step == 0:
            small = cv2.resize(frame.image, (_WIDTH, height), interpolation=cv2.INTER_AREA)
            pictures.append(Image.fromarray(small))
    if not pictures:
        raise ValueError(f"{video} ends before {start_s:g} s")
    temporary = out.with_name(f"{out.name}.{os.getpid()}.tmp")
    pictures[0].save(
        temporary,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 * step / info.fps),
        loop=0,
        quality=_QUALITY,
        method=4,
    )
    temporary.replace(out)
