"""The row of what `animate` draws."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from training.animation.animator import Animator
from training.avatars.finetune import FineTuneConfig, fine_tune
from training.avatars.portraits import Portrait
from training.checkpoints.bundle import BaseModel
from training.evaluation.as_rendered import AsRendered
from training.evaluation.methods import FeedForward, Shots
from training.evaluation.metrics.faces import Faces

CPU = torch.device("cpu")


@pytest.fixture
def shots(face: Callable[..., np.ndarray], draw: Callable[..., np.ndarray]) -> Shots:
    """Three shots of one clip, looking left, ahead and right."""
    landmarks = np.stack([face(60.0, 48.0, 50.0, yaw=yaw) for yaw in (-20.0, 0.0, 20.0)])
    return Shots(Faces(np.stack([draw(points, 96, 96) for points in landmarks]), landmarks), 96)


@pytest.mark.slow
def test_it_is_what_an_avatar_of_the_shots_shows(base_model: Callable[..., BaseModel], shots: Shots) -> None:
    """Pixel by pixel what the renderer draws and pastes, for the same targets."""
    model, targets = base_model(warp_prior=True), shots.faces.landmarks[[2, 0]] + np.array([1.5, 0.5], np.float32)
    drawn = AsRendered("ours, as rendered", model, FineTuneConfig(0), CPU).draw(shots, targets)
    pictures = [
        Portrait(image, points, f"{number}.png", str(number))
        for number, (image, points) in enumerate(zip(shots.stored.images, shots.stored.landmarks, strict=True))
    ]
    animator = Animator(fine_tune(model, pictures, FineTuneConfig(0)))
    shares = animator.choose_shots(targets, None)
    assert [animator.names[shot] for shot in shares.head.argmax(axis=1)] == ["2.png", "0.png"]
    regions = animator.frames(targets, None, shares)
    assert np.array_equal(drawn, np.stack([animator.paste(region) for region in regions]))


@pytest.mark.slow
def test_at_a_shots_own_landmarks_it_is_the_shot(base_model: Callable[..., BaseModel], shots: Shots) -> None:
    """An untrained network shows the warp, and that of a shot to itself is the shot: for both rows."""
    model, targets = base_model(warp_prior=True), shots.faces.landmarks
    for method in (FeedForward("ours", model, CPU), AsRendered("ours, as rendered", model, FineTuneConfig(0), CPU)):
        drawn = method.draw(shots, targets)
        assert np.abs(drawn.astype(int) - shots.faces.images).mean() < 4, method.name
