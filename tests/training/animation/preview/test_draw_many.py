"""Frames of several avatars in one batch are those of each avatar alone."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import training.animation.shots.canvas_shots as shots_module
from pipelines.faces.person_matte import PersonSegmenter
from training.animation.animator import Animator
from training.animation.preview.draw_many import WantedFrames, can_share_batches, draw_many
from training.animation.shots.choice import ShotShares
from training.avatars.finetune import FineTuneConfig, fine_tune
from training.avatars.portraits import Portrait
from training.checkpoints.bundle import BaseModel


@pytest.fixture(autouse=True)
def _segmented(right_half: PersonSegmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shots_module, "PersonSegmenter", lambda: right_half)


@pytest.fixture(params=[True, False], ids=["warp prior", "published form"])
def model(request: pytest.FixtureRequest, base_model: Callable[..., BaseModel]) -> BaseModel:
    """An untrained generator that paints: its last layer is not zero."""
    model = base_model(warp_prior=request.param)
    with torch.no_grad():
        model.generator.head.weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    return model


def people(model: BaseModel, portrait: Callable[..., Portrait]) -> list[Animator]:
    """Four heads of different sizes and turns; the first two with an iris, the last of three pictures."""
    made = [[portrait(18.0)], [portrait(26.0, yaw=12.0)], [portrait(22.0, yaw=-15.0)]]
    made.append([portrait(24.0), portrait(24.0, yaw=20.0), portrait(20.0, yaw=-20.0)])
    gaze = np.full((2, 2), 0.1, np.float32)
    made[:2] = [[Portrait(one.image, one.landmarks, one.name, one.sha256, gaze)] for (one,) in made[:2]]
    return [Animator(fine_tune(model, pictures, FineTuneConfig(0))) for pictures in made]


def wanted(animator: Animator, number: int) -> WantedFrames:
    """Frames that move to the right, each from the mean of all shots, with eyes that look aside."""
    moves = np.arange(1, number + 1, dtype=np.float32)[:, None, None] * np.array([1.5, 0.5], np.float32)
    targets = animator.canvas.landmarks + moves
    shots = len(animator.shots)
    gaze = np.full((number, 2, 2), 0.2, np.float32)
    return WantedFrames(animator, targets, gaze, ShotShares(np.full((number, shots), 1 / shots, np.float32)))


def alone(frames: WantedFrames) -> np.ndarray:
    return np.stack(list(frames.animator.frames(frames.targets, frames.gaze, frames.shares))).astype(int)


@pytest.mark.slow
def test_different_people_drawn_in_one_batch_equal_those_drawn_alone(
    model: BaseModel, portrait: Callable[..., Portrait], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To one level on all but a few values: float sums in another order move samples by a 32nd of a pixel at times.
    One avatar has more frames than a batch."""
    animators = people(model, portrait)
    frames = [wanted(animator, number) for animator, number in zip(animators, (1, 3, 9, 1), strict=True)]
    expected = [alone(one) for one in frames]
    batches: list[int] = []
    generate = Animator.generate

    def counted(self: Animator, images: Tensor, *more: object) -> object:
        batches.append(len(images))
        return generate(self, images, *more)

    monkeypatch.setattr(Animator, "generate", counted)
    drawn = draw_many(frames)
    for regions, truth in zip(drawn, expected, strict=True):
        difference = np.abs(np.stack(list(regions)).astype(int) - truth)
        assert (difference > 1).mean() < 1e-4
        assert difference.mean() < 0.01
    # 1 + 3 frames turn their eyes; 8 of nine; the ninth with the last avatar's, once from each of its shots.
    assert batches == ([4, 8, 4] if model.config.model.warp_prior else [4, 8, 2])
    # The values that differ are used: with another's, the picture is another.
    animators[0].adain_values = animators[1].adain_values
    assert np.abs(alone(frames[0]) - expected[0]).max() > 2


def test_only_equal_weights_at_one_place_and_precision_share_batches(
    base_model: Callable[..., BaseModel], portrait: Callable[..., Portrait]
) -> None:
    model = base_model(warp_prior=True)
    avatars = [fine_tune(model, [portrait(size)], FineTuneConfig(0)) for size in (20.0, 24.0, 24.0)]
    with torch.no_grad():
        next(avatars[2].generator.parameters()).add_(1e-3)  # as by fine-tuning
    one, other, tuned = map(Animator, avatars)
    assert can_share_batches(one, other)
    assert not can_share_batches(one, tuned)
    assert not can_share_batches(one, Animator(avatars[1], precision="bfloat16"))
