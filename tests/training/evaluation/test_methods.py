"""What each method draws, on faces drawn by hand."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch

from pipelines.faces.person_matte import PersonSegmenter
from training.avatars.finetune import FineTuneConfig
from training.checkpoints.bundle import BaseModel
from training.config import ModelConfig
from training.evaluation import methods
from training.evaluation.methods import (
    FeedForward,
    FineTuned,
    Shots,
    WarpAlone,
    WarpOfPerson,
)
from training.evaluation.metrics.faces import Faces
from training.images import resize_points

CPU = torch.device("cpu")
MakeModel = Callable[..., BaseModel]


@pytest.fixture
def shots(face: Callable[..., np.ndarray], draw: Callable[..., np.ndarray]) -> Shots:
    """Three shots of 32 px, looking left, ahead and right, each of another shade."""
    landmarks = np.stack([face(yaw=yaw) for yaw in (-20.0, 0.0, 20.0)])
    images = np.stack([draw(points, 32, 32, shade) for points, shade in zip(landmarks, (120, 160, 200), strict=True)])
    return Shots(Faces(images, landmarks), 32)


def test_warp_alone_gives_a_shot_back_at_its_own_landmarks(
    shots: Shots, tiny_model: Callable[..., ModelConfig], face: Callable[..., np.ndarray]
) -> None:
    warp = WarpAlone(tiny_model(), CPU)
    drawn = warp.draw(shots, shots.faces.landmarks[[2, 0]])
    assert np.abs(drawn.astype(int) - shots.faces.images[[2, 0]]).max() <= 1
    # More targets than a batch holds, each on its own.
    many = warp.draw(shots, np.repeat(shots.faces.landmarks[[1]], 19, axis=0))
    assert many.shape == (19, 32, 32, 3)


def test_the_warp_of_the_person_leaves_standing_what_is_behind(
    tiny_model: Callable[..., ModelConfig],
    face: Callable[..., np.ndarray],
    draw: Callable[..., np.ndarray],
    right_half: PersonSegmenter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(methods, "_segmenter", lambda: right_half)
    landmarks = face(40.0, 32.0, 34.0)
    large = Faces(draw(landmarks, 64, 64, 120)[None], landmarks[None])
    targets = face(40.0, 30.0, 34.0)[None]  # two pixels further left
    for size in (32, 64):  # as the network sees it, and larger
        shots, scaled = Shots(large, size), resize_points(targets, size / 64)
        everything = WarpAlone(tiny_model(), CPU).draw(shots, scaled).astype(int)
        held = WarpOfPerson(tiny_model(), CPU).draw(shots, scaled).astype(int)
        left, right = slice(0, size // 2 - 4), slice(size // 2 + 2, None)
        assert np.abs(held - shots.faces.images)[:, :, left].max() <= 1
        assert np.abs(everything - shots.faces.images)[:, :, left].max() > 10
        # What is bent is bent the same way, to a fraction of a pixel.
        difference, change = (np.abs(held - other)[:, :, right].mean() for other in (everything, shots.faces.images))
        assert difference < 0.2 * change


def test_the_row_of_the_warp_is_the_same_beside_a_model_of_either_form(
    tiny_model: Callable[..., ModelConfig], face: Callable[..., np.ndarray], draw: Callable[..., np.ndarray]
) -> None:
    landmarks = face(40.0, 32.0, 34.0)
    shots = Shots(Faces(draw(landmarks, 64, 64, 120)[None], landmarks[None]), 32)
    targets = face(20.0, 16.0, 17.0, yaw=12.0)[None]
    with_prior, published = (
        WarpAlone(tiny_model(warp_prior=prior), CPU).draw(shots, targets) for prior in (True, False)
    )
    np.testing.assert_array_equal(with_prior, published)


@pytest.mark.slow
def test_an_untrained_warp_prior_shows_about_the_warp_and_the_published_form_does_not(
    shots: Shots, base_model: MakeModel, face: Callable[..., np.ndarray]
) -> None:
    targets = np.stack([face(yaw=12.0)])
    with_prior, published = (base_model(warp_prior=prior) for prior in (True, False))
    warp = WarpAlone(with_prior.config.model, CPU).draw(shots, targets).astype(int)
    near = np.abs(FeedForward("ours", with_prior, CPU).draw(shots, targets) - warp).mean()
    far = np.abs(FeedForward("published", published, CPU).draw(shots, targets) - warp).mean()
    assert near < 10 < far


@pytest.mark.slow
def test_larger_frames_show_the_pictures_own_detail_with_the_networks_correction(
    base_model: MakeModel, face: Callable[..., np.ndarray], draw: Callable[..., np.ndarray]
) -> None:
    landmarks = face(40.0, 32.0, 34.0)
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 40  # gone at the network's 32 px
    picture = (draw(landmarks, 64, 64, 120) // 2 + checks[..., None]).astype(np.uint8)
    large = Faces(picture[None], landmarks[None])
    shots = Shots(large, 64)
    model = base_model(warp_prior=True)
    with torch.no_grad():  # a network that makes everything darker, wherever it is
        model.generator.head.bias.copy_(torch.tensor([-0.5, -0.5, -0.5, -9.0]))
    drawn = FeedForward("ours", model, CPU).draw(shots, large.landmarks).astype(float)
    warp = WarpAlone(model.config.model, CPU).draw(shots, large.landmarks).astype(float)
    assert np.abs(warp - large.images).max() <= 1
    inside = slice(8, -8)
    drawn, warp = drawn[0, inside, inside], warp[0, inside, inside]
    assert drawn.mean() < warp.mean() - 5

    def detail(image: np.ndarray) -> float:
        return float(np.abs(np.diff(image, axis=1)).mean())

    coarse = cv2.resize(cv2.resize(warp, (24, 24), interpolation=cv2.INTER_AREA), (48, 48))
    assert detail(coarse) < 0.3 * detail(warp)  # what the network sees of it
    assert detail(drawn) > 0.6 * detail(warp)


def test_larger_frames_are_sampled_where_the_network_moves_them(
    base_model: MakeModel, face: Callable[..., np.ndarray], draw: Callable[..., np.ndarray]
) -> None:
    landmarks = face(40.0, 32.0, 34.0)
    large = Faces(draw(landmarks, 64, 64, 120)[None], landmarks[None])
    model = base_model(warp_prior=True)
    with torch.no_grad():  # all of it looks as far to the right as it may: a tenth of half of 64 pixels
        model.generator.motion.get_parameter("bias").copy_(torch.tensor([0.0, 1e3, 0.0]))
    drawn = FeedForward("ours", model, CPU).draw(Shots(large, 64), large.landmarks)[0].astype(float)
    inside = (slice(8, -8), slice(8, -8))
    wanted = cv2.warpAffine(large.images[0], np.array([[1, 0, -3.2], [0, 1, 0]]), (64, 64))
    near, far = (np.abs(drawn - picture)[inside].mean() for picture in (wanted, large.images[0]))
    assert near < 2
    assert far > 2 * near


@pytest.mark.slow
def test_fine_tuning_without_steps_is_feed_forward(
    shots: Shots, base_model: MakeModel, face: Callable[..., np.ndarray]
) -> None:
    """But for the crop, which fine-tuning cuts anew: the published form alone knows nothing of the shots' pixels."""
    model = base_model(warp_prior=True)
    targets = np.stack([face(yaw=12.0), face(yaw=3.0)])
    tuned = FineTuned("tuned", model, FineTuneConfig(num_steps=0), CPU).draw(shots, targets)
    plain = FeedForward("plain", model, CPU).draw(shots, targets)
    assert np.abs(tuned.astype(int) - plain).mean() < 3


def test_mattes_and_the_warp_of_the_person_are_made_once_for_all_methods_and_t(
    tiny_model: Callable[..., ModelConfig],
    shots: Shots,
    face: Callable[..., np.ndarray],
    right_half: PersonSegmenter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    segmented, warped = [0], [0]

    class Counting(PersonSegmenter):
        def matte(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
            segmented[0] += 1
            return right_half.matte(image, landmarks)

    def count(*arguments: object, **keywords: object) -> object:
        warped[0] += 1
        return warp_shots(*arguments, **keywords)

    warp_shots = methods._warp_shots
    monkeypatch.setattr(methods, "_segmenter", Counting)
    monkeypatch.setattr(methods, "_warp_shots", count)
    targets = np.stack([face(yaw=12.0), face(yaw=-12.0)])
    method = WarpOfPerson(tiny_model(), CPU)
    for number in (1, 3):
        given = shots.first(number)
        drawn = [method.draw(given, targets) for _ in range(2)]
        np.testing.assert_array_equal(*drawn)
        alone = method.draw(Shots(shots.stored.first(number), 32), targets)
        np.testing.assert_array_equal(drawn[0], alone)
    assert warped[0] == 4  # for one and three shots, shared and alone
    assert segmented[0] == 3 + 1 + 3
