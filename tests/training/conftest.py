"""Tiny networks, drawn faces and a small real data set of them, shared by the tests of training."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from drawn_dataset import CROP_SIZE, clip_row, drawn_clip, write_dataset
from jaxtyping import Float, UInt8
from torch import Tensor

from pipelines.dataset.reader import ShardDataset
from pipelines.dataset.schema import ClipKey
from pipelines.faces.crop import CropRule, crop, crop_affine, to_crop
from pipelines.faces.head_pose import CANONICAL_LANDMARKS, Pose
from pipelines.faces.person_matte import PersonSegmenter
from training.avatars.portraits import Portrait
from training.checkpoints.bundle import BaseModel, TrainingProvenance
from training.config import ModelConfig, TrainConfig
from training.losses.perceptual import PerceptualNetwork
from training.losses.perceptual_files import PerceptualFiles
from training.models.discriminator import Discriminator
from training.models.embedder import Embedder
from training.models.generator import Generator
from training.warp.apply import WarpedShot, warp_with_field
from training.warp.field import WarpField
from training.warp.matted_shot import make_shot

Image = UInt8[np.ndarray, "height width 3"]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy machine make tiny networks a hundred times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny_model() -> Callable[..., ModelConfig]:
    """`tiny_model(warp_prior=True, ...)`: 32 px, two halvings, everything else as in the large ones."""

    def make(**changes: object) -> ModelConfig:
        config = ModelConfig(
            image_size=32,
            generator_channels=(4, 8),
            embedder_channels=(4, 8),
            num_bottleneck_blocks=1,
            attention_size_down=8,
            attention_size_up=16,
        )
        return dataclasses.replace(config, **changes)  # type: ignore[arg-type]

    return make


class _RightHalf(PersonSegmenter):
    def matte(
        self, image: UInt8[np.ndarray, "height width 3"], landmarks: Float[np.ndarray, "68 2"]
    ) -> UInt8[np.ndarray, "height width"]:
        del landmarks
        matte = np.zeros(image.shape[:2], np.uint8)
        matte[:, image.shape[1] // 2 :] = 255
        return matte


@pytest.fixture
def right_half() -> PersonSegmenter:
    """Sees a person in the right half of every picture."""
    return _RightHalf()


@pytest.fixture
def unbent() -> Callable[[Tensor, Tensor], WarpedShot]:
    """`unbent(pictures, landmark_images)`: shots, a person all over, warped to where they are."""

    def make(pictures: Tensor, landmark_images: Tensor) -> WarpedShot:
        unbent = WarpField.spline_only(torch.zeros(*pictures[:, 0].shape, 2))
        return warp_with_field(make_shot(pictures, torch.ones_like(pictures[:, 0])), landmark_images, unbent)

    return make


@pytest.fixture
def tiny_train(tiny_model: Callable[..., ModelConfig]) -> Callable[..., TrainConfig]:
    """`tiny_train(warp_prior=..., num_steps=..., ...)`."""

    def make(*, warp_prior: bool = False, **changes: object) -> TrainConfig:
        config = TrainConfig(
            model=tiny_model(warp_prior=warp_prior),
            perceptual="alexnet",
            num_shots=2,
            episodes_per_step=4,
            num_steps=3,
            learning_rate=1e-3,
            learning_rate_discriminator=1e-3,
            log_every=1,
        )
        return dataclasses.replace(config, **changes)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def random_perceptual() -> PerceptualNetwork:
    """AlexNet's shape with random weights: no download."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PerceptualNetwork("alexnet").eval()


@pytest.fixture(scope="session")
def published_files(tmp_path_factory: pytest.TempPathFactory) -> PerceptualFiles:
    """Random weights in the shapes of Caffe's VGG19 and VGGFace."""
    folder = tmp_path_factory.mktemp("perceptual")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = PerceptualNetwork("vgg19_vggface")
    for term in network.classifiers:
        classifier = network.classifier(term)
        layers = zip(classifier.layer_names(), classifier.convs, strict=True)
        state = {f"{names[1]}.{key}": t for names, conv in layers for key, t in conv.state_dict().items()}
        torch.save(state, folder / f"{term}.pth")
    return PerceptualFiles(str(folder / "content.pth"), str(folder / "content_face.pth"))


@pytest.fixture
def face() -> Callable[..., Float[np.ndarray, "68 2"]]:
    """`face(size=..., x=..., y=..., yaw=..., head=...)`: a head's landmarks; `size` is about its face's height."""

    def make(
        size: float = 20.0,
        x: float = 16.0,
        y: float = 17.0,
        *,
        yaw: float = 0.0,
        pitch: float = 0.0,
        roll: float = 0.0,
        head: Float[np.ndarray, "68 3"] = CANONICAL_LANDMARKS,
    ) -> Float[np.ndarray, "68 2"]:
        angles = (np.asarray(float(angle)) for angle in (yaw, pitch, roll))
        pose = Pose.from_angles(*angles, np.asarray(size / 14.5), np.array([x, y - size * 0.15]))
        return pose.project(head).astype(np.float32)

    return make


@pytest.fixture
def draw() -> Callable[..., Image]:
    """`draw(landmarks, height, width, shade)`: a flat cartoon of a face, with some texture behind it."""

    def make(landmarks: Float[np.ndarray, "68 2"], height: int, width: int, shade: int = 180) -> Image:
        rows, columns = np.mgrid[:height, :width]
        image = np.stack([rows * 2 % 97, columns * 3 % 89, (rows + columns) % 71], -1).astype(np.uint8)
        for part, colour in (
            (range(17), (shade, shade - 30, shade - 60)),
            (range(36, 42), (250, 250, 250)),
            (range(42, 48), (250, 250, 250)),
            (range(48, 60), (170, 40, 50)),
        ):
            hull = cv2.convexHull(np.rint(landmarks[list(part)]).astype(np.int32))
            image = cv2.fillConvexPoly(np.ascontiguousarray(image), hull, colour)
        return image

    return make


@pytest.fixture
def make_dataset(
    tmp_path: Path, face: Callable[..., np.ndarray], draw: Callable[..., Image]
) -> Callable[..., ShardDataset]:
    """`make_dataset("ann/v1", "bob/v1", num_frames=5, name="set")`: real shards of drawn faces, one video an id.

    `num_frames` may be a list, one number a video; `num_shards` deals the videos out; `root` may be any URL.
    """

    def make(
        *video_ids: str,
        num_frames: int | list[int] = 5,
        name: str = "set",
        num_shards: int = 1,
        root: str | None = None,
    ) -> ShardDataset:
        counts = [num_frames] * len(video_ids) if isinstance(num_frames, int) else num_frames
        rows = [
            drawn_clip(video_id, number, count, face, draw)
            for number, (video_id, count) in enumerate(zip(video_ids, counts, strict=True))
        ]
        return write_dataset(root or str(tmp_path / name), [rows[shard::num_shards] for shard in range(num_shards)])

    return make


Take = tuple[Float[np.ndarray, "frames 68 2"], UInt8[np.ndarray, "frames height width 3"]]


@pytest.fixture
def take(face: Callable[..., np.ndarray], draw: Callable[..., Image]) -> Callable[..., Take]:
    """`take(person, motion, frames)`: landmarks and pictures (120 x 130 pixels) of frames of a film.

    Persons 0, 1, ... have ever wider faces and other places in their pictures; motions 0, 1, ... turn otherwise.
    """

    def make(person: int, motion: int, frames: Sequence[int]) -> Take:
        head = CANONICAL_LANDMARKS * [1 + 0.12 * person, 1, 1]
        turns = [(12 * np.sin(0.9 * n + 2 * motion), 5 * np.cos(0.7 * n + motion)) for n in frames]
        landmarks = np.stack(
            [face(50, 60 + 4 * person + yaw / 3, 62, yaw=yaw, pitch=pitch, head=head) for yaw, pitch in turns]
        )
        return landmarks, np.stack([draw(points, 120, 130, 150 + 25 * person) for points in landmarks])

    return make


@pytest.fixture
def make_paired(tmp_path: Path, take: Callable[..., Take]) -> Callable[..., ShardDataset]:
    """`make_paired(people=3, motions=2, kept=lambda person, motion: range(10))`: `id0/m0000` ..., each with its crop.

    `kept` says which frames of a film the data set has.
    """

    def make(
        people: int = 3,
        motions: int = 2,
        kept: Callable[[int, int], Sequence[int]] = lambda person, motion: range(10),
    ) -> ShardDataset:
        rows = []
        for person in range(people):
            for motion in range(motions):
                frames = [*kept(person, motion)]
                landmarks, images = take(person, motion, frames)
                affine = crop_affine(landmarks, CropRule(), CROP_SIZE)
                crops = [crop(image, affine, CROP_SIZE) for image in images]
                key = ClipKey(f"id{person}", f"m{motion:04d}", "00001")
                rows.append(clip_row(key, crops, to_crop(landmarks, affine), frames, affine))
        return write_dataset(str(tmp_path / "paired"), [rows])

    return make


@pytest.fixture
def portrait(face: Callable[..., np.ndarray], draw: Callable[..., Image]) -> Callable[..., Portrait]:
    """`portrait(size=60, yaw=0, ...)`: a drawn picture of 150 x 121 pixels with its landmarks."""

    def make(size: float = 60.0, **pose: float) -> Portrait:
        landmarks = face(size, 62.0, 80.0, **pose)
        return Portrait(draw(landmarks, 150, 121), landmarks, f"{size:.0f}-{pose}.png", "0" * 64)

    return make


@pytest.fixture
def base_model(tiny_train: Callable[..., TrainConfig]) -> Callable[..., BaseModel]:
    """`base_model(warp_prior=...)`: a model as it comes out of its initialisation."""

    def make(**changes: object) -> BaseModel:
        config = tiny_train(**changes)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            networks = Embedder(config.model), Generator(config.model), Discriminator(config.model)
        return BaseModel(
            config, TrainingProvenance(0, 0, "set", "d" * 64), *(network.eval() for network in networks), "v" * 64
        )

    return make
