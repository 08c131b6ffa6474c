import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from pipelines.faces.head_pose import eye_openness, fit_pose
from training.avatars import training_frames
from training.avatars.finetune import FineTuneConfig, fine_tune
from training.avatars.portraits import Portrait
from training.avatars.training_frames import random_expression
from training.checkpoints.bundle import BaseModel
from training.warp.apply import WarpedShot, warp_shot

MakeModel = Callable[..., BaseModel]
MakePortrait = Callable[..., Portrait]
CPU = torch.device("cpu")


@pytest.mark.slow
def test_variants_are_split_into_those_trained_on_and_those_held_out(
    base_model: MakeModel, portrait: MakePortrait
) -> None:
    config = base_model(warp_prior=True).config.model
    train, held_out = training_frames._variants(config, [portrait(), portrait(yaw=9.0)], np.random.default_rng(0), CPU)
    assert (len(train.target), len(held_out.target)) == (12, 2)
    assert train.warped is not None
    # What the generator sees is no longer the picture, though near it: something is left to learn.
    lost = float((train.warped.frame[:, :3] - train.target).abs().mean())
    assert 0.002 < lost < 0.2
    # The landmark image is bent back along: it lies where the target's is.
    shown = float((train.warped.landmark_image - train.landmark_image).abs().mean())
    assert shown < 0.5 * float((train.landmark_image.roll(3, dims=3) - train.landmark_image).abs().mean())


@pytest.mark.slow
def test_of_four_frames_of_a_film_each_is_restored_from_the_others(
    base_model: MakeModel, portrait: MakePortrait
) -> None:
    model = base_model(warp_prior=True)
    clip = [portrait(yaw=yaw) for yaw in (0.0, 6.0, 12.0, 18.0)]
    frames = training_frames.make_training_frames(model.config.model, clip, np.random.default_rng(0), None, CPU)
    assert frames is not None
    train, held_out = frames
    # Three targets of three others each; the fourth is a target of the check alone.
    assert (len(train.target), len(held_out.target)) == (9, 3)
    assert len({bytes(each.numpy()) for each in train.target}) == 3
    assert len({bytes(each.numpy()) for each in held_out.target}) == 1
    assert train.warped is not None
    assert len({bytes(each.numpy()) for each in train.warped.frame}) == 9
    # Whoever says how many steps needs no check: all are trained on.
    everything = training_frames.make_training_frames(model.config.model, clip, np.random.default_rng(0), 5, CPU)
    assert everything is not None
    assert [len(part.target) for part in everything] == [12, 0]
    # What a warp of another frame loses is more than what one of the same frame would.
    lost = (train.warped.frame[:, :3] - train.target).abs().mean(dim=(1, 2, 3))
    assert 0.01 < float(lost.min()) < float(lost.max()) < 0.2
    steps: list[int] = []
    fine_tune(model, clip, FineTuneConfig(), lambda step, *_: steps.append(step))
    assert steps[:10] == [*range(1, 11)]


def test_frames_of_a_film_are_restored_from_those_that_drawing_would_start_from(
    base_model: MakeModel, portrait: MakePortrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[torch.Tensor, torch.Tensor]] = []

    def watch(frame: torch.Tensor, image: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> WarpedShot:
        asked.append((source, target))
        return warp_shot(frame, image, source, target)

    monkeypatch.setattr(training_frames, "warp_shot", watch)
    clip = [portrait(yaw=yaw) for yaw in (0.0, 5.0, 11.0, 18.0, 26.0, 35.0)]
    training_frames.make_training_frames(
        base_model(warp_prior=True).config.model, clip, np.random.default_rng(0), None, CPU
    )
    sources, targets = (torch.cat(points) for points in zip(*asked, strict=True))
    points = list(targets[::3])
    found = [next(i for i, each in enumerate(points) if torch.equal(each, source)) for source in sources]
    nearest = [set(found[first : first + 3]) for first in range(0, 18, 3)]
    assert nearest == [{1, 2, 3}, {0, 2, 3}, {0, 1, 3}, {1, 2, 4}, {2, 3, 5}, {2, 3, 4}]


@pytest.mark.long
def test_pictures_of_several_scenes_are_not_painted_onto_each_other(
    base_model: MakeModel, portrait: MakePortrait
) -> None:
    config = base_model(warp_prior=True).config.model
    clip = [portrait(yaw=yaw) for yaw in (0.0, 6.0, 12.0, 18.0)]
    larger = dataclasses.replace(clip[0], image=np.pad(clip[0].image, ((0, 9), (0, 0), (0, 0))))
    night = [dataclasses.replace(each, image=each.image // (1 + 4 * (i % 2))) for i, each in enumerate(clip)]
    for pictures, trained in (([larger, *clip[1:]], 24), (night, 24), (clip[:3], 18)):
        frames = training_frames.make_training_frames(config, pictures, np.random.default_rng(0), 5, CPU)
        assert frames is not None
        assert len(frames[0].target) == trained  # six bent ones of each picture


def test_a_bent_face_is_the_same_face_in_another_mood(face: Callable[..., np.ndarray]) -> None:
    landmarks = face(60, 60, 60, yaw=5)
    bent = np.stack([random_expression(landmarks, np.random.default_rng(seed)) for seed in range(40)])
    assert np.array_equal(bent[0], random_expression(landmarks, np.random.default_rng(0)))
    assert np.isfinite(bent).all()
    openness = eye_openness(bent).mean(axis=1)
    assert openness.min() < 0.5 * eye_openness(landmarks).mean()
    assert 1 < np.std(fit_pose(bent).yaw) < 9
    assert np.abs(np.mean(fit_pose(bent).scale) / fit_pose(landmarks).scale - 1) < 0.02
