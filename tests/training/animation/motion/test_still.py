from collections.abc import Callable

import numpy as np
import pytest

from training.animation.animator import Animator
from training.animation.motion.sliders import Sliders
from training.animation.motion.still import draw_still
from training.animation.shots.choice import ShotShares
from training.avatars.finetune import FineTuneConfig, fine_tune
from training.avatars.portraits import Portrait
from training.checkpoints.bundle import BaseModel


@pytest.mark.slow
def test_sliders_at_zero_leave_the_portrait_and_a_turn_beyond_the_limits_is_told(
    base_model: Callable[..., BaseModel], portrait: Callable[..., Portrait]
) -> None:
    animator = Animator(fine_tune(base_model(warp_prior=True), [portrait()], FineTuneConfig(0)))
    still = draw_still(animator, Sliders())
    unmoved = next(
        animator.frames(animator.canvas.landmarks[None], None, ShotShares(np.ones((1, 1), np.float32)))
    )  # what the networks paint
    assert np.abs(still.region.astype(int) - unmoved).max() <= 1
    assert still.notes == ()
    turned = draw_still(animator, Sliders(yaw=40.0, smile=1.0))
    (note,) = turned.notes
    assert note.startswith("yaw is limited: the head turns by ")
    assert note.endswith(" of 40 degrees")
    assert np.abs(turned.region.astype(int) - still.region).mean() > 1
