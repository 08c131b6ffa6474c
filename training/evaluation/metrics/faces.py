"""Frames of a video with their landmarks."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from training.images import resize_points, resize_square


@dataclass(frozen=True)
class Faces:
    """Frames of one video (RGB 0..255) and their true landmarks (pixels)."""

    images: UInt8[np.ndarray, "frames size size 3"]
    landmarks: Float[np.ndarray, "frames 68 2"]

    def __len__(self) -> int:
        return len(self.images)

    def first(self, number: int) -> "Faces":
        return Faces(self.images[:number], self.landmarks[:number])

    @property
    def size(self) -> int:
        return int(self.images.shape[1])

    def resized(self, size: int) -> "Faces":
        """Resize frames and landmarks to `size` pixels."""
        if size == self.size:
            return self
        images = np.stack([resize_square(image, size) for image in self.images])
        return Faces(images, resize_points(self.landmarks, size / self.size))
