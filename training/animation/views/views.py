"""What a video shows of each frame: the whole picture or the crop; or portrait, driver and result side by side."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64, UInt8

from pipelines.faces.crop import crop, crop_affine
from pipelines.media.encode import Stamp
from pipelines.media.frame_times import Schedule
from pipelines.media.sound import Sound
from pipelines.media.video import VideoWriter, decode, probe
from training.animation.animator import Animator
from training.animation.driver_track import DriverTrack
from training.images import resize_square

_TILE = 400  # side of a tile of the side-by-side video, pixels


@dataclass(frozen=True)
class View:
    """What is shown of a frame: the whole picture or the crop around the face. H.264 requires even sizes."""

    animator: Animator
    whole: bool
    width: int
    height: int

    @classmethod
    def of(cls, animator: Animator, frame: Literal["full", "crop"]) -> "View":
        height, width = animator.canvas.image.shape[:2]
        if frame == "crop":
            height = width = animator.region.crop_side
        return cls(animator, frame == "full", width // 2 * 2, height // 2 * 2)

    def picture(self, region: UInt8[np.ndarray, "side side 3"]) -> UInt8[np.ndarray, "height width 3"]:
        crop = self.animator.region.crop
        picture = self.animator.paste(region) if self.whole else region[crop, crop]
        return np.ascontiguousarray(picture[: self.height, : self.width])


class SideBySide(ExitStack):
    """Writes a video of three square tiles around the faces: portrait, driver and result."""

    def __init__(
        self,
        path: Path,
        driver: Path,
        track: DriverTrack,
        animator: Animator,
        schedule: Schedule,
        sound: Sound | None,
        comment: str,
        stamp: Stamp | None = None,
    ) -> None:
        super().__init__()
        self.driver = decode(driver)
        info, region = probe(driver), animator.region
        affine = crop_affine(track.landmarks, animator.config.crop, _TILE)
        self.affine = _inside(affine, info.width, info.height)
        self.portrait = resize_square(region.cut(animator.canvas.image)[region.crop, region.crop], _TILE)
        self.writer = VideoWriter(
            path,
            width=3 * _TILE,
            height=_TILE,
            fps=schedule.fps,
            variable=schedule.variable,
            sound=sound,
            comment=comment,
            stamp=stamp,
        )

    def __enter__(self) -> "SideBySide":
        super().__enter__()
        self.enter_context(self.writer)
        return self

    def write(self, result: UInt8[np.ndarray, "crop crop 3"], number: int, shown: Sequence[float | None]) -> None:
        """Write the result of the driver's frame `number` as often as it is `shown`."""
        frame = next(frame for frame in self.driver if frame.index >= number)
        tiles = np.hstack([self.portrait, crop(frame.image, self.affine, _TILE), resize_square(result, _TILE)])
        for seconds in shown:
            self.writer.write(tiles, seconds)


def _inside(affine: Float64[np.ndarray, "2 3"], width: int, height: int) -> Float64[np.ndarray, "2 3"]:
    """Shrink and move a tile's crop so that it lies within the frame."""
    side = min(float(affine[0, 0]) * _TILE, width, height)
    centre = affine[:, 2] + affine[0, 0] * (_TILE - 1) / 2
    corner = np.clip(centre - side / 2, -0.5, np.array([width, height]) - side - 0.5)
    scale = side / _TILE
    return np.array([[scale, 0, corner[0] + scale / 2], [0, scale, corner[1] + scale / 2]])
