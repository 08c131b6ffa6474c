from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.dataset.reader import ShardDataset
from pipelines.faces.head_pose import CANONICAL_LANDMARKS, MIRRORED, fit_pose
from pipelines.faces.landmark_image import RasterConfig, rasterize
from pipelines.faces.person_matte import PersonSegmenter
from training.config import Augmentation, ModelConfig
from training.episodes.augmentation import AugmentationDraws, augment_frames, augment_landmarks, draw_augmentation
from training.episodes.batch import to_batch
from training.episodes.loader import EpisodeLoader
from training.episodes.sampler import EpisodeSampler
from training.images import to_images, to_tensor
from training.models.identity_rows import IdentityRows
from training.warp.apply import warp_shot
from training.warp.control_points import control_points
from training.warp.matted_shot import make_shot

CPU = torch.device("cpu")
MOVES = ("angle", "scale", "shift")
ALL = Augmentation(flip=True, colour=0.3, affine=0.2, camera=0.4)


def make_draws(batch: int = 1, frames: int = 1, **changes: object) -> AugmentationDraws:
    """Nothing happens, but for the changes: one value, the same for the whole batch of two frames each."""
    still = {"flip": False, "brightness": 0.0, "contrast": 1.0, "saturation": 1.0}
    values = {name: np.full(batch, changes.get(name, value)) for name, value in still.items()}
    moves = {
        name: np.full((batch, frames), changes.get(name, value)) for name, value in (("angle", 0.0), ("scale", 1.0))
    }
    return AugmentationDraws(
        **values, **moves, shift=np.tile(np.array(changes.get("shift", (0.0, 0.0))), (batch, frames, 1))
    )


def test_the_two_sides_are_those_of_a_symmetric_head() -> None:
    mirrored = CANONICAL_LANDMARKS * [-1, 1, 1]
    distance = np.linalg.norm(mirrored[:, None] - CANONICAL_LANDMARKS[None], axis=-1)
    assert distance.min(axis=1).max() < 0.01  # centimetres: the head is symmetric
    assert distance.argmin(axis=1).tolist() == list(MIRRORED)


def test_flipped_twice_is_as_it_was(face: Callable[..., np.ndarray]) -> None:
    landmarks = np.stack([face(yaw=20.0, roll=5.0), face(x=12.0)])[None]
    draws = make_draws(flip=True)
    once = augment_landmarks(landmarks, draws, 32)
    assert np.allclose(augment_landmarks(once, draws, 32), landmarks, atol=1e-5)
    # By hand: the left end of the jaw is the mirror image of the right one, in a picture of columns 0 to 31.
    assert once[0, 0, 0].tolist() == pytest.approx([31 - landmarks[0, 0, 16, 0], landmarks[0, 0, 16, 1]], abs=1e-4)
    frames = torch.rand(1, 2, 3, 8, 8) * 2 - 1
    assert torch.equal(augment_frames(augment_frames(frames, draws), draws), frames)
    assert torch.equal(augment_frames(frames, draws)[..., 0], frames[..., 7])


def test_the_landmark_image_of_a_flipped_face_is_mirrored_with_the_sides_colours_swapped(
    face: Callable[..., np.ndarray],
) -> None:
    landmarks = face(160, 128, 140, yaw=15.0, pitch=5.0, roll=8.0)
    flipped = augment_landmarks(landmarks[None, None], make_draws(flip=True), 256)[0, 0]
    drawn = rasterize(flipped, 256, RasterConfig())
    mirrored = rasterize(landmarks, 256, RasterConfig())[:, ::-1]
    # Brows are red and green, eyes magenta and cyan: swapping red with green swaps the sides, and nothing else.
    assert np.abs(drawn.astype(int) - mirrored[..., [1, 0, 2]]).max() <= 1
    assert np.abs(drawn.astype(int) - mirrored).max() == 255


def test_a_flip_mirrors_yaw_and_roll_of_every_frame(face: Callable[..., np.ndarray]) -> None:
    landmarks = np.stack([face(yaw=20.0, pitch=4.0, roll=6.0), face(yaw=-9.0, pitch=-3.0)])[None]
    flipped = augment_landmarks(landmarks, make_draws(flip=True), 32)
    before, after = fit_pose(landmarks[0]), fit_pose(flipped[0])
    assert np.allclose(after.yaw, -before.yaw, atol=0.5)
    assert np.allclose(after.roll, -before.roll, atol=0.5)
    assert np.allclose(after.pitch, before.pitch, atol=0.5)


@pytest.mark.parametrize(
    "changes",
    [
        {"angle": 0.2},
        {"scale": 1.2},
        {"shift": (0.1, -0.05)},
        {"flip": True, "angle": -0.15, "scale": 0.9, "shift": (0.02, 0.06)},
    ],
    ids=str,
)
def test_landmarks_stay_on_painted_dots(changes: dict[str, object]) -> None:
    size = 96
    landmarks = np.zeros((1, 1, 68, 2), np.float32)
    landmarks[0, 0, :17] = [(30 + 9 * (i % 5), 30 + 9 * (i // 5)) for i in range(17)]
    frame = torch.full((1, 1, 3, size, size), -1.0)
    for x, y in landmarks[0, 0, :17].astype(int):
        frame[..., y - 1 : y + 2, x - 1 : x + 2] = 1
    draws = make_draws(**changes)
    moved = augment_landmarks(landmarks, draws, size)[0, 0]
    moved = moved[list(MIRRORED)] if changes.get("flip") else moved  # in the order in which they were painted
    image = augment_frames(frame, draws)[0, 0, 0]
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    for x, y in moved[:17]:
        near = ((columns - x).abs() < 4) & ((rows - y).abs() < 4)
        light = (image + 1) * near
        centre = float((light * columns).sum() / light.sum()), float((light * rows).sum() / light.sum())
        assert centre == pytest.approx((x, y), abs=0.15)


def test_a_turn_is_about_the_pictures_middle_and_clockwise() -> None:
    landmarks = np.full((1, 1, 68, 2), 15.5, np.float32)
    landmarks[0, 0, 0] = [31, 15.5]  # at the right end of the middle row
    turned = augment_landmarks(landmarks, make_draws(angle=np.pi / 2), 32)[0, 0]
    assert turned[0].tolist() == pytest.approx([15.5, 31], abs=1e-4)
    assert turned[1].tolist() == pytest.approx([15.5, 15.5], abs=1e-4)
    larger = augment_landmarks(landmarks, make_draws(scale=0.5, shift=(0.25, 0.0)), 32)[0, 0]
    assert larger[0].tolist() == pytest.approx([15.5 + 15.5 / 2 + 8, 15.5], abs=1e-4)


def test_colours_by_hand() -> None:
    frames = torch.tensor([0.5, -0.5, 0.0]).view(1, 1, 3, 1, 1).expand(1, 2, 3, 2, 2)
    grey = 0.299 * 0.5 - 0.587 * 0.5
    for changes, expected in (
        ({"brightness": 0.2}, [0.7, -0.3, 0.2]),
        ({"brightness": 0.7}, [1.0, 0.2, 0.7]),  # white is the end
        ({"contrast": 0.8}, [0.4, -0.4, 0.0]),
        ({"saturation": 0.0}, [grey] * 3),
        ({"saturation": 1.5, "contrast": 0.5, "brightness": 0.1},
         [0.1 + 0.5 * (grey + 1.5 * (value - grey)) for value in (0.5, -0.5, 0.0)]),
    ):  # fmt: skip
        changed = augment_frames(frames, make_draws(**changes))  # type: ignore[arg-type]
        assert changed[0, 1, :, 1, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_draws_are_a_function_of_seed_and_episode() -> None:
    whole = draw_augmentation(ALL, 3, range(40), 3)
    assert whole is not None
    for numbers in ([7], [30, 7, 12]):
        part = draw_augmentation(ALL, 3, numbers, 3)
        assert part is not None
        for name in vars(part):
            assert np.array_equal(getattr(part, name), getattr(whole, name)[numbers])
    other = draw_augmentation(ALL, 4, range(40), 3)
    assert other is not None
    assert not np.array_equal(other.angle, whole.angle)
    assert 10 < whole.flip.sum() < 30
    for values in (whole.brightness, whole.contrast - 1, whole.saturation - 1):
        assert 0.2 < np.abs(values).max() <= 0.3
    assert 0.15 < np.abs(whole.shift).max() <= 0.2 + 0.4 / 3


def test_half_of_the_cameras_move_each_frame_of_its_own_and_mostly_little() -> None:
    draws = draw_augmentation(Augmentation(camera=0.3), 0, range(400), 5)
    assert draws is not None
    nearer = np.log(draws.scale)
    moves = np.ptp(nearer, axis=1) > 0
    assert 170 < moves.sum() < 230
    # The strength is the square of an even chance: half of those that move have less than a quarter.
    strength = np.abs(nearer).max(axis=1) / 0.3
    assert strength.max() == pytest.approx(0.9, abs=0.1)
    assert 0.15 < np.median(strength[moves]) < 0.25
    assert np.abs(draws.shift).max() == pytest.approx(0.1, abs=0.02)
    assert np.abs(draws.angle).max() == pytest.approx(0.075, abs=0.02)
    assert not draws.flip.any()
    others = draw_augmentation(Augmentation(affine=0.2), 0, range(400), 5)
    assert others is not None
    assert (np.ptp(others.scale, axis=1) == 0).all()


def test_one_kind_of_change_does_not_depend_on_the_others() -> None:
    both, flips = draw_augmentation(ALL, 0, range(20), 3), draw_augmentation(Augmentation(flip=True), 0, range(20), 3)
    assert both is not None
    assert flips is not None
    assert np.array_equal(both.flip, flips.flip)
    assert (flips.scale == 1).all()
    colours = draw_augmentation(Augmentation(colour=0.3), 0, range(20), 3)
    assert colours is not None
    assert np.array_equal(colours.contrast, both.contrast)
    assert not colours.flip.any()
    assert draw_augmentation(Augmentation(), 0, range(20), 3) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 0.6}, r"colour must lie in \[0, 0.5\], not 0.6"),
        ({"affine": -0.1}, r"affine must lie in \[0, 0.25\], not -0.1"),
        ({"camera": 0.6}, r"camera must lie in \[0, 0.5\], not 0.6"),
        ({"affine": float("nan")}, "affine must lie in"),
    ],
)
def test_too_much_is_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**changes)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_batch_is_augmented_by_episode_and_its_landmarks_along(
    make_dataset: Callable[..., ShardDataset], tiny_model: Callable[..., ModelConfig], right_half: PersonSegmenter
) -> None:
    dataset = make_dataset("ann/v1", "bob/v1")
    videos = dataset.videos("train")
    loader = EpisodeLoader(dataset, videos, EpisodeSampler([5, 5], 2, 4, seed=0), 64, segmenter=right_half)
    decoded = loader.load(3)
    assert decoded.numbers == (12, 13, 14, 15)
    config, table = tiny_model(warp_prior=True), IdentityRows(["ann/v1", "bob/v1"], 8, learning_rate=0.1)
    draws = draw_augmentation(ALL, 0, decoded.numbers, 3)
    assert draws is not None
    batch = to_batch(decoded, table, config, CPU, draws)
    landmarks = ((augment_landmarks(decoded.landmarks, draws, 64) + 0.5) / 2 - 0.5).astype(np.float32)
    finer = []
    for episode in range(4):
        # The same change to the target and to each shot, but for the camera.
        for place, frame in enumerate((batch.target[episode], *batch.shots[episode])):
            alone = to_tensor(decoded.images[episode, place][None], CPU)[None]
            one = AugmentationDraws(**{name: value[episode : episode + 1] for name, value in vars(draws).items()})
            one = replace(one, **{name: getattr(one, name)[:, place : place + 1] for name in MOVES})
            fine = augment_frames(alone, one)[0, 0]
            assert torch.allclose(frame, fine.unflatten(2, (32, 2)).unflatten(1, (32, 2)).mean(dim=(2, 4)), atol=1e-6)
            finer.append(fine)
        drawn = rasterize(landmarks[episode, 2], 32, config.raster)
        assert np.array_equal(to_images(batch.shot_landmark_images[episode, 1:2])[0], drawn)
    # The warp bends between the augmented points.
    assert batch.warped is not None
    points = torch.from_numpy(control_points(landmarks, 32))
    rows, source = torch.arange(4), torch.from_numpy(decoded.warp_sources)
    images = torch.cat([batch.target_landmark_image[:, None], batch.shot_landmark_images], dim=1)
    frames = torch.stack(finer).unflatten(0, (4, 3))
    # A matte is changed as if it were a picture, but for its colours.
    grey = torch.zeros(4, 3, 3, 64, 64)
    grey[..., 32:] = 1
    still = {name: getattr(make_draws(4, 3), name) for name in ("brightness", "contrast", "saturation")}
    mattes = augment_frames(grey, replace(draws, **still))[rows, source, 0]
    assert float(mattes.std(dim=0).max()) > 0  # not the same for all
    bent = warp_shot(make_shot(frames[rows, source], mattes), images[rows, source], points[rows, source], points[:, 0])
    assert torch.allclose(batch.warped.frame, bent.frame, atol=1e-5)
    plain = to_batch(decoded, table, config, CPU)
    assert not torch.allclose(plain.target, batch.target, atol=0.05)


def test_workers_see_their_share_of_the_same_pictures(
    make_dataset: Callable[..., ShardDataset], tiny_model: Callable[..., ModelConfig]
) -> None:
    dataset = make_dataset("ann/v1", "bob/v1")
    videos = dataset.videos("train")
    table = IdentityRows(["ann/v1", "bob/v1"], 8, learning_rate=0.1)
    targets = []
    for rank, world_size in ((0, 1), (0, 2), (1, 2)):
        sampler = EpisodeSampler([5, 5], 2, 4, seed=0)
        loader = EpisodeLoader(dataset, videos, sampler, 32, rank=rank, world_size=world_size)
        decoded = loader.load(1)
        batch = to_batch(decoded, table, tiny_model(), CPU, draw_augmentation(ALL, 0, decoded.numbers, 3))
        targets.append(batch.target)
    assert torch.allclose(torch.cat(targets[1:]), targets[0], atol=1e-6)
