"""Convert a video to a small animated WebP for a README or a web page.

Pillow encodes it: OpenCV, which encodes still WebPs in `images`, cannot write animations.
"""

import os
from itertools import pairwise
from pathlib import Path

import cv2
from PIL import Image

from pipelines.media.frame_times import read_frame_times
from pipelines.media.video import decode, probe

_FPS = 12
_WIDTH = 600
_MAX_SECONDS = 8.0
_QUALITY = 60


def write_animated_webp(video: Path, out: Path, *, start_s: float = 0.0) -> None:
    """Write up to 8 s of `video` at about 12 frames/s, 600 px wide, as a looping WebP.

    Every picture is shown as long as in the video, pauses included.

    Raises:
        ValueError: `video` is not a video, or ends before `start_s`.
    """
    info = probe(video)
    fps = read_frame_times(video, info.fps).fps
    frame_s = 1 / float(fps)
    step_s = max(round(fps / _FPS), 1) * frame_s
    height = round(info.height * _WIDTH / info.width)
    pictures: list[Image.Image] = []
    times: list[float] = []
    for frame in decode(video):
        seconds = frame.pts_us / 1e6
        if seconds >= start_s + _MAX_SECONDS - frame_s / 2:
            break
        if seconds >= (times[-1] + step_s if times else start_s) - frame_s / 2:
            small = cv2.resize(frame.image, (_WIDTH, height), interpolation=cv2.INTER_AREA)
            pictures.append(Image.fromarray(small))
            times.append(seconds)
    if not pictures:
        raise ValueError(f"{video} ends before {start_s:g} s")
    temporary = out.with_name(f"{out.name}.{os.getpid()}.tmp")
    pictures[0].save(
        temporary,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=[round(1000 * (end - begin)) for begin, end in pairwise([*times, times[-1] + step_s])],
        loop=0,
        quality=_QUALITY,
        method=4,
    )
    temporary.replace(out)
