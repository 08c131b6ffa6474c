"""Quality of a rendered video, measured while it is drawn: likeness to the portrait."""

from functools import cache

import numpy as np
from jaxtyping import Bool, Float, UInt8

from pipelines.assets import AssetError, CacheError
from pipelines.faces.identity.sface import FaceRecogniser, align
from training.animation.animator import Animator

_NUM_LOOKS = 4


class Likeness:
    """CSIM of a few frames, evenly spaced, to the portrait: the cosine of SFace's embeddings, 12 ms a frame."""

    def __init__(self, animator: Animator, targets: Float[np.ndarray, "frames 68 2"]) -> None:
        """`targets` are the landmarks that are drawn, in pixels of the canvas."""
        region, canvas = animator.region, animator.canvas
        middles = (np.arange(_NUM_LOOKS) + 0.5) / _NUM_LOOKS * len(targets)
        corner = np.array([region.left, region.top], np.float32)
        self._landmarks = {int(at): np.asarray(targets[int(at)] - corner, np.float32) for at in middles}
        self._cuts = [align(canvas.image, canvas.landmarks)]

    def see(self, number: int, region: UInt8[np.ndarray, "side side 3"]) -> None:
        """Look at frame `number`."""
        if number in self._landmarks:
            self._cuts.append(align(region, self._landmarks[number]))

    def csim(self) -> float | None:
        """Return the mean; None without the recogniser's file."""
        try:
            portrait, *frames = _recogniser().embed_aligned(self._cuts)
        except (AssetError, CacheError):
            return None
        return round(float(np.mean([frame @ portrait for frame in frames])), 3) if frames else None


class FilmLikeness:
    """CSIM of a few frames, evenly spaced among those that are drawn anew, to the film's own frames."""

    def __init__(self, drawn: Bool[np.ndarray, " frames"]) -> None:
        """`drawn` says which of the film's frames may be looked at."""
        numbers = np.flatnonzero(drawn)
        middles = (np.arange(_NUM_LOOKS) + 0.5) / _NUM_LOOKS * len(numbers)
        self._numbers = {int(numbers[int(at)]) for at in middles} if len(numbers) else set()
        self._cuts: list[UInt8[np.ndarray, "112 112 3"]] = []

    def see(
        self,
        number: int,
        before: UInt8[np.ndarray, "height width 3"],
        after: UInt8[np.ndarray, "height width 3"],
        own: Float[np.ndarray, "68 2"],
        target: Float[np.ndarray, "68 2"],
    ) -> None:
        """Look at frame `number` before and after, with its landmarks in pixels."""
        if number in self._numbers:
            self._cuts += [align(before, own), align(after, target)]

    def csim(self) -> float | None:
        """Return the mean; None without looks or the recogniser's file."""
        if not self._cuts:
            return None
        try:
            embedded = _recogniser().embed_aligned(self._cuts)
        except (AssetError, CacheError):
            return None
        return round(float((embedded[::2] * embedded[1::2]).sum(axis=1).mean()), 3)


@cache
def _recogniser() -> FaceRecogniser:
    return FaceRecogniser()
