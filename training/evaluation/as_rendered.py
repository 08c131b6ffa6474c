"""The frames of `animate`, as a row of the tables: what a user gets for the same shots and targets."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8

from training.animation.animator import Animator
from training.avatars.finetune import FineTuneConfig, fine_tune
from training.checkpoints.bundle import BaseModel
from training.evaluation.methods import Shots
from training.images import resize_points, resize_square


@dataclass(frozen=True)
class AsRendered:
    """Frames of an avatar of the shots, drawn by `Animator` and pasted into its canvas, at the shots' stored size.

    Every frame takes its nearest shot: the frames of the protocol do not follow each other.
    """

    name: str
    model: BaseModel
    tuning: FineTuneConfig
    device: torch.device

    def draw(self, shots: Shots, targets: Float[np.ndarray, "frames 68 2"]) -> UInt8[np.ndarray, "frames size size 3"]:
        avatar = fine_tune(self.model, shots.portraits, self.tuning, device=self.device)
        animator = Animator(avatar, device=self.device)
        points = resize_points(targets, shots.stored.size / shots.size)
        regions = animator.frames(points, None, animator.choose_shots(points, None))
        return np.stack([resize_square(animator.paste(region), shots.size) for region in regions])
