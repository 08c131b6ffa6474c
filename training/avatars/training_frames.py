"""Training data of fine-tuning: pairs of portraits, or variants of each, with landmark images and warps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional as F

from pipelines.faces.crop import crop, crop_affine, to_crop
from pipelines.faces.head_pose import (
    INNER_LIP,
    LEFT_EYE,
    NUM_LANDMARKS,
    OUTER_LIP,
    RIGHT_EYE,
    Pose,
    fit_pose,
    unproject,
)
from pipelines.faces.landmark_image import rasterize_batch
from pipelines.faces.person_matte import PersonSegmenter
from training.avatars.portraits import Portrait
from training.config import ModelConfig
from training.device import in_batches
from training.images import matte_tensor, resize_points, to_images, to_tensor
from training.warp.apply import WarpedShot, warp_person, warp_shot
from training.warp.control_points import control_points, unit_points
from training.warp.field import WarpField, warp_field
from training.warp.matted_shot import make_shot
from training.warp.source_choice import warp_distances

_VARIANTS_PER_PORTRAIT = 6
_MIN_PAIRED_PORTRAITS = 4  # fewer make no pairs; every fourth is held out as a target
_SOURCES_PER_TARGET = 3  # the nearest other portraits, as at inference; distant sources teach distrust of the warp
_MAX_SCENE_DIFFERENCE = 0.2  # mean |warped source - target| in [-1, 1]; more means other light or clothes
_BATCH = 16  # warps at once; fewer where the device's memory is small
_SUPERSAMPLING = 4  # resolution of variants relative to the network's: they are sampled twice, which would blur


@dataclass(frozen=True)
class TrainingFrames:
    """Targets with the generator's inputs, frames in [-1, 1], and the loss networks' activations of the targets."""

    target: Float[Tensor, "batch 3 h w"]
    landmarks: Float[Tensor, "batch 68 2"]
    """Of the targets, in [-1, 1] across the edges."""
    landmark_image: Float[Tensor, "batch 3 h w"]
    warped: WarpedShot | None
    activations: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, index: Tensor | slice) -> "TrainingFrames":
        warped = self.warped and self.warped[index]
        activations = {term: [layer[index] for layer in layers] for term, layers in self.activations.items()}
        return TrainingFrames(
            self.target[index], self.landmarks[index], self.landmark_image[index], warped, activations
        )


@dataclass(frozen=True)
class _Crops:
    """Crops of portraits at the networks' size and at the warp's; landmarks in pixels of each."""

    fine: Float[Tensor, "shots 3 fine fine"]
    """At the warp's size, `ModelConfig.frame_size`."""
    fine_landmarks: Float[np.ndarray, "shots 68 2"]
    frames: Float[Tensor, "shots 3 h w"]
    landmarks: Float[np.ndarray, "shots 68 2"]
    landmark_images: Float[Tensor, "shots 3 h w"]


def crop_portraits(
    config: ModelConfig,
    portraits: Sequence[Portrait],
    affines: Sequence[Float64[np.ndarray, "2 3"]],
    device: torch.device,
) -> _Crops:
    """Cut the portraits and draw their landmarks; tensors are on `device`."""
    size, fine_size = config.image_size, config.frame_size
    cuts = [*zip(portraits, affines, strict=True)]
    images = np.stack([crop(portrait.image, affine, fine_size) for portrait, affine in cuts])
    fine_landmarks = np.stack([to_crop(portrait.landmarks, affine) for portrait, affine in cuts])
    landmarks = resize_points(fine_landmarks, size / fine_size)
    drawn = rasterize_batch(torch.from_numpy(landmarks).to(device), size, config.raster)
    fine = to_tensor(images, device)
    return _Crops(fine, fine_landmarks, F.avg_pool2d(fine, fine_size // size), landmarks, drawn)


def _shots(
    segmenter: PersonSegmenter, frames: Float[Tensor, "batch 3 h w"], landmarks: Float[np.ndarray, "batch 68 2"]
) -> Float[Tensor, "batch 7 h w"]:
    mattes = np.stack([segmenter.matte(*face) for face in zip(to_images(frames), landmarks, strict=True)])
    return make_shot(frames, matte_tensor(mattes, frames.device))


def make_training_frames(
    config: ModelConfig,
    portraits: Sequence[Portrait],
    random: np.random.Generator,
    num_steps: int | None,
    device: torch.device,
) -> tuple[TrainingFrames, TrainingFrames] | None:
    """Return training and held-out frames: pairs, with a warp prior and enough frames of one clip, else variants.

    Tensors are on `device`. What is random is drawn on the CPU, the same for every device.
    Returns None with a warp prior when pairs are not possible and `num_steps` is None: variants may do harm there.
    """
    one_size = len({portrait.image.shape for portrait in portraits}) == 1
    if config.warp_prior and one_size and len(portraits) >= _MIN_PAIRED_PORTRAITS:
        pairs = _pairs(config, portraits, device, hold_out=num_steps is None)
        if pairs is not None:
            return pairs
    if config.warp_prior and num_steps is None:
        return None
    return _variants(config, portraits, random, device)


def _pairs(
    config: ModelConfig, portraits: Sequence[Portrait], device: torch.device, *, hold_out: bool
) -> tuple[TrainingFrames, TrainingFrames] | None:
    """Pair each picture, as the target, with the nearest others, warped to it, as in animation.

    With `hold_out`, every fourth picture is a target of the held-out frames only; it still serves as a source. Returns
    None if the pictures are not of one scene: changes of light and clothes are not to be learned.
    """
    total = len(portraits)
    # One crop for all, as for a clip in training, so that the background stays in place.
    affine = crop_affine(np.stack([portrait.landmarks for portrait in portraits]), config.crop, config.frame_size)
    crops = crop_portraits(config, portraits, [affine] * total, device)
    distances = warp_distances(crops.landmarks, crops.landmarks, config.image_size)
    np.fill_diagonal(distances, np.inf)
    sources = distances.argsort(axis=1)[:, :_SOURCES_PER_TARGET].reshape(-1)
    targets = np.arange(total).repeat(_SOURCES_PER_TARGET)
    points = torch.from_numpy(control_points(crops.landmarks, config.image_size)).to(device)
    shots = _shots(PersonSegmenter(), crops.fine, crops.fine_landmarks)
    warped = _cat_warped(
        in_batches(
            lambda batch: warp_shot(
                shots[sources[batch]],
                crops.landmark_images[sources[batch]],
                points[sources[batch]],
                points[targets[batch]],
            ),
            len(targets),
            _BATCH,
        )
    )
    frames = TrainingFrames(
        crops.frames[targets], points[targets, :NUM_LANDMARKS], crops.landmark_images[targets], warped
    )
    same_scene = (warped.frame[:, :3] - frames.target).abs().mean(dim=(1, 2, 3)) < _MAX_SCENE_DIFFERENCE
    is_held_out = torch.from_numpy(targets % _MIN_PAIRED_PORTRAITS == _MIN_PAIRED_PORTRAITS - 1).to(device) & hold_out
    train, held_out = frames[same_scene & ~is_held_out], frames[same_scene & is_held_out]
    if same_scene.sum() < len(same_scene) / 2 or (hold_out and not len(held_out)):
        return None
    return train, held_out


def _variants(
    config: ModelConfig, portraits: Sequence[Portrait], random: np.random.Generator, device: torch.device
) -> tuple[TrainingFrames, TrainingFrames]:
    """Return training and held-out frames made from single pictures.

    Without a warp prior a variant changes brightness and contrast slightly. With it, warping a picture to its own
    landmarks would leave nothing to learn, so the picture is first warped to a random expression and pose; the network
    learns to restore what the two warps lose.
    """
    per_portrait = _VARIANTS_PER_PORTRAIT if len(portraits) < 8 else 2
    segmenter = PersonSegmenter()
    variants = [
        _warped_variant(config, portrait, random, segmenter, device)
        for portrait in portraits
        for _ in range(per_portrait + 1)
    ]
    frames = TrainingFrames(
        torch.cat([variant.target for variant in variants]),
        torch.cat([variant.landmarks for variant in variants]),
        torch.cat([variant.landmark_image for variant in variants]),
        _cat_warped([variant.warped for variant in variants if variant.warped is not None])
        if config.warp_prior
        else None,
    )
    is_held_out = torch.arange(len(variants), device=device) % (per_portrait + 1) == per_portrait
    return frames[~is_held_out], frames[is_held_out]


def _cat_warped(shots: Sequence[WarpedShot]) -> WarpedShot:
    tensors = ((s.field.spline, s.field.source, s.field.target, s.shot, s.frame, s.landmark_image) for s in shots)
    spline, source, target, shot, frame, image = map(torch.cat, zip(*tensors, strict=True))
    return WarpedShot(shot, WarpField(spline, source, target), frame, image)


def _warped_variant(
    config: ModelConfig,
    portrait: Portrait,
    random: np.random.Generator,
    segmenter: PersonSegmenter,
    device: torch.device,
) -> TrainingFrames:
    size, fine = config.image_size, config.image_size * _SUPERSAMPLING
    image, fine_landmarks = portrait.crop(config, fine)
    frame = _change_brightness(to_tensor(image[None], device), random)
    landmarks = resize_points(fine_landmarks, 1 / _SUPERSAMPLING)
    own_image = rasterize_batch(torch.from_numpy(landmarks[None]).to(device), size, config.raster)
    target = F.avg_pool2d(frame, _SUPERSAMPLING)
    if not config.warp_prior:
        points = torch.from_numpy(unit_points(landmarks, size)[None]).to(device)
        return TrainingFrames(target, points, own_image, None)
    moved = random_expression(landmarks, random)
    moved_image = rasterize_batch(torch.from_numpy(moved[None]).to(device), size, config.raster)
    own, other = (torch.from_numpy(control_points(points, size)[None]).to(device) for points in (landmarks, moved))
    shot = _shots(segmenter, frame, fine_landmarks[None])
    moved_frame, moved_matte = warp_person(shot, warp_field(own, other)).split([3, 1], dim=1)
    warped = warp_shot(make_shot(moved_frame, moved_matte[:, 0]), moved_image, other, own)
    return TrainingFrames(target, own[:, :NUM_LANDMARKS], own_image, warped)


def random_expression(landmarks: Float[np.ndarray, "68 2"], random: np.random.Generator) -> Float[np.ndarray, "68 2"]:
    """Return the landmarks of the same face with random lids, mouth and a slightly different head pose."""
    pose = fit_pose(landmarks)
    head = unproject(landmarks, pose)
    for eye in (RIGHT_EYE, LEFT_EYE):
        lids = head[eye]
        middle = lids[[0, 3], 1].mean()
        lids[:, 1] += random.uniform(-0.2, 0.9) * (middle + 0.1 - lids[:, 1])
    centre = head[OUTER_LIP].mean(axis=0)
    widen, lift, drop = random.uniform(0.9, 1.25), random.uniform(-0.2, 0.5), random.uniform(0, 1.2)
    for lips in (OUTER_LIP, INNER_LIP):
        head[lips, 0] = centre[0] + widen * (head[lips, 0] - centre[0])
    head[[48, 54, 60, 64], 1] -= lift
    head[[55, 56, 57, 58, 59, 65, 66, 67], 1] += drop
    head[5:12, 1] += drop * np.array([0.3, 0.6, 0.9, 1.0, 0.9, 0.6, 0.3])
    yaw, pitch, roll = (np.asarray(angle + random.normal(0, 5)) for angle in (pose.yaw, pose.pitch, pose.roll))
    turned = Pose.from_angles(yaw, pitch, roll, pose.scale, pose.translation)
    return turned.project(head).astype(np.float32)


def _change_brightness(frame: Float[Tensor, "1 3 h w"], random: np.random.Generator) -> Float[Tensor, "1 3 h w"]:
    """Change brightness and contrast slightly, so that held-out variants differ from the training frames."""
    return (frame * random.uniform(0.9, 1.1) + random.uniform(-0.06, 0.06)).clamp(-1, 1)
