"""People drawn while training by the real renderer."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from pipelines.faces.detectors import create_detector
from training.config import SyntheticConfig, TrainConfig
from training.episodes.online import OnlineLoader, OnlineSource
from training.evaluation.metrics.landmark_motion import landmark_error
from training.images import resize_points


@pytest.mark.slow
def test_mediapipe_finds_the_landmarks_that_a_model_of_them_is_trained_on(
    tiny_train: Callable[..., TrainConfig],
) -> None:
    config = tiny_train(online=SyntheticConfig(1000, motion="procedural"), num_shots=1)
    config = replace(config, model=replace(config.model, image_size=128))
    source = OnlineSource(config)
    with source.open_loader(config, device=torch.device("cpu")) as loader:
        batches = [loader.load(step) for step in (0, config.online.reuse)]
    images = np.concatenate([np.asarray(batch.images).reshape(-1, 128, 128, 3) for batch in batches])
    landmarks = np.concatenate([batch.landmarks.reshape(-1, 68, 2) for batch in batches])
    detector = create_detector("mediapipe")
    found, errors = 0, []
    for image, points in zip(images, landmarks, strict=True):
        faces = detector.detect(np.asarray(cv2.resize(image, (256, 256), interpolation=cv2.INTER_CUBIC)))
        if faces:
            found += 1
            errors.append(float(landmark_error(resize_points(faces[0].landmarks, 0.5)[None], points[None])[0]))
    assert found >= len(images) - 1
    assert np.median(errors) < 6


@pytest.mark.slow
def test_the_real_renderer_draws_the_same_for_any_number_of_workers(tiny_train: Callable[..., TrainConfig]) -> None:
    config = tiny_train(online=SyntheticConfig(1000, motion="procedural"), num_shots=1, episodes_per_step=2)
    people = OnlineSource(config).people

    def load(rank: int, world_size: int) -> torch.Tensor:
        loader = OnlineLoader(config, people, rank=rank, world_size=world_size, device=torch.device("cpu"))
        return torch.as_tensor(loader.load(1).images)

    whole, parts = load(0, 1), [load(0, 2), load(1, 2)]
    assert torch.equal(torch.cat(parts), whole)
