"""What a fine-tuning trains on: crops of the portraits, their pairs and warped variants."""

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
from training.images import matte_tensor, resize_points, to_images, to_tensor
from training.warp.matted_shot import make_shot
from training.warp.source_choice import warp_distances
from training.warp.warp import WarpedShot, WarpField, control_points, unit_points, warp_field, warp_person, warp_shot

_VARIANTS_PER_PORTRAIT = 6


_ENOUGH_FOR_PAIRS = 4  # pictures, of which every fourth is held out as a target


_SOURCES_EACH = 3  # the nearest others of a target: what drawing starts from. Far ones teach to distrust the warp


_SAME_SCENE = 0.2  # mean distance in [-1, 1] of a picture to another bent to it, beyond which light or clothes differ


_FINE = 4  # variants are warped at this multiple of the network's size, so that sampling twice does not blur


@dataclass(frozen=True)
class TrainingFrames:
    """Targets with what the generator sees of them, [-1, 1], and what critics see in them."""

    target: Float[Tensor, "batch 3 h w"]
    landmarks: Float[Tensor, "batch 68 2"]
    """The targets', in [-1, 1] across the edges."""
    landmark_image: Float[Tensor, "batch 3 h w"]
    warped: WarpedShot | None
    activations: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)

    def __getitem__(self, index: Tensor) -> "TrainingFrames":
        warped = self.warped and self.warped[index]
        activations = {term: [layer[index] for layer in layers] for term, layers in self.activations.items()}
        return TrainingFrames(
            self.target[index], self.landmarks[index], self.landmark_image[index], warped, activations
        )


@dataclass(frozen=True)
class _Crops:
    """The pictures as the networks see them; landmarks in pixels."""

    fine: Float[Tensor, "shots 3 fine fine"]
    """As large as a warp wants them: `ModelConfig.frame_size`."""
    fine_landmarks: Float[np.ndarray, "shots 68 2"]
    frames: Float[Tensor, "shots 3 h w"]
    landmarks: Float[np.ndarray, "shots 68 2"]
    landmark_images: Float[Tensor, "shots 3 h w"]


def cut_crops(
    config: ModelConfig, portraits: Sequence[Portrait], affines: Sequence[Float64[np.ndarray, "2 3"]]
) -> _Crops:
    size, fine_size = config.image_size, config.frame_size
    cuts = [*zip(portraits, affines, strict=True)]
    images = np.stack([crop(portrait.image, affine, fine_size) for portrait, affine in cuts])
    fine_landmarks = np.stack([to_crop(portrait.landmarks, affine) for portrait, affine in cuts])
    landmarks = resize_points(fine_landmarks, size / fine_size)
    drawn = rasterize_batch(torch.from_numpy(landmarks), size, config.raster)
    fine = to_tensor(images, torch.device("cpu"))
    return _Crops(fine, fine_landmarks, F.avg_pool2d(fine, fine_size // size), landmarks, drawn)


def _shots(
    segmenter: PersonSegmenter, frames: Float[Tensor, "batch 3 h w"], landmarks: Float[np.ndarray, "batch 68 2"]
) -> Float[Tensor, "batch 7 h w"]:
    mattes = np.stack([segmenter.matte(*face) for face in zip(to_images(frames), landmarks, strict=True)])
    return make_shot(frames, matte_tensor(mattes, frames.device))


def training_frames(
    config: ModelConfig, portraits: Sequence[Portrait], random: np.random.Generator, num_steps: int | None
) -> tuple[TrainingFrames, TrainingFrames] | None:
    """Training and held-out frames: with a warp prior and enough frames of a film pairs of them, else variants.

    None where variants may do harm, and nobody asked for steps.
    """
    one_size = len({portrait.image.shape for portrait in portraits}) == 1
    if config.warp_prior and one_size and len(portraits) >= _ENOUGH_FOR_PAIRS:
        pairs = _pairs(config, portraits, hold_out=num_steps is None)
        if pairs is not None:
            return pairs
    if config.warp_prior and num_steps is None:
        return None
    return _variants(config, portraits, random)


def _pairs(
    config: ModelConfig, portraits: Sequence[Portrait], *, hold_out: bool
) -> tuple[TrainingFrames, TrainingFrames] | None:
    """Each picture as the target of those nearest to it, bent, which is what animating will ask for.

    To `hold_out` makes every fourth a target of the check alone; it is a source all the same. None where the pictures
    are not of one scene: another light or other clothes are nothing to learn to paint.
    """
    total = len(portraits)
    # One crop for all, as training has it for a clip: what surrounds the head stays where it is.
    affine = crop_affine(np.stack([portrait.landmarks for portrait in portraits]), config.crop, config.frame_size)
    crops = cut_crops(config, portraits, [affine] * total)
    distances = warp_distances(crops.landmarks, crops.landmarks, config.image_size)
    np.fill_diagonal(distances, np.inf)
    sources = distances.argsort(axis=1)[:, :_SOURCES_EACH].reshape(-1)
    targets = np.arange(total).repeat(_SOURCES_EACH)
    points = torch.from_numpy(control_points(crops.landmarks, config.image_size))
    shots = _shots(PersonSegmenter(), crops.fine, crops.fine_landmarks)
    warped = warp_shot(shots[sources], crops.landmark_images[sources], points[sources], points[targets])
    frames = TrainingFrames(
        crops.frames[targets], points[targets, :NUM_LANDMARKS], crops.landmark_images[targets], warped
    )
    alike = (warped.frame[:, :3] - frames.target).abs().mean(dim=(1, 2, 3)) < _SAME_SCENE
    is_held_out = torch.from_numpy(targets % _ENOUGH_FOR_PAIRS == _ENOUGH_FOR_PAIRS - 1) & hold_out
    train, held_out = frames[alike & ~is_held_out], frames[alike & is_held_out]
    if alike.sum() < len(alike) / 2 or (hold_out and not len(held_out.target)):
        return None
    return train, held_out


def _variants(
    config: ModelConfig, portraits: Sequence[Portrait], random: np.random.Generator
) -> tuple[TrainingFrames, TrainingFrames]:
    """Training and held-out frames.

    The published form sees the pictures in slightly different light, and is held to one more of the kind. With a warp
    prior and few pictures one warped from itself would leave nothing to learn, so each is first bent to another
    expression and pose, and must be restored from there: what a warp loses on the way is what the network has to know.
    """
    per_portrait = _VARIANTS_PER_PORTRAIT if len(portraits) < 8 else 2
    segmenter = PersonSegmenter()
    made = [
        _bent_variant(config, portrait, random, segmenter) for portrait in portraits for _ in range(per_portrait + 1)
    ]
    frames = TrainingFrames(
        torch.cat([frame.target for frame in made]),
        torch.cat([frame.landmarks for frame in made]),
        torch.cat([frame.landmark_image for frame in made]),
        _cat_warped([frame.warped for frame in made if frame.warped is not None]),
    )
    is_held_out = torch.arange(len(made)) % (per_portrait + 1) == per_portrait
    return frames[~is_held_out], frames[is_held_out]


def _cat_warped(shots: Sequence[WarpedShot]) -> WarpedShot | None:
    if not shots:
        return None
    tensors = ((s.field.spline, s.field.source, s.field.target, s.shot, s.frame, s.landmark_image) for s in shots)
    spline, source, target, shot, frame, image = map(torch.cat, zip(*tensors, strict=True))
    return WarpedShot(shot, WarpField(spline, source, target), frame, image)


def _bent_variant(
    config: ModelConfig, portrait: Portrait, random: np.random.Generator, segmenter: PersonSegmenter
) -> TrainingFrames:
    size, fine = config.image_size, config.image_size * _FINE
    image, fine_landmarks = portrait.crop(config, fine)
    frame = _shaded(to_tensor(image[None], torch.device("cpu")), random)
    landmarks = resize_points(fine_landmarks, 1 / _FINE)
    own_image = rasterize_batch(torch.from_numpy(landmarks[None]), size, config.raster)
    target = F.avg_pool2d(frame, _FINE)
    if not config.warp_prior:
        return TrainingFrames(target, torch.from_numpy(unit_points(landmarks, size))[None], own_image, None)
    bent = bend_face(landmarks, random)
    bent_image = rasterize_batch(torch.from_numpy(bent[None]), size, config.raster)
    own, other = (torch.from_numpy(control_points(points, size))[None] for points in (landmarks, bent))
    shot = _shots(segmenter, frame, fine_landmarks[None])
    bent_frame, bent_matte = warp_person(shot, warp_field(own, other)).split([3, 1], dim=1)
    warped = warp_shot(make_shot(bent_frame, bent_matte[:, 0]), bent_image, other, own)
    return TrainingFrames(target, own[:, :NUM_LANDMARKS], own_image, warped)


def bend_face(landmarks: Float[np.ndarray, "68 2"], random: np.random.Generator) -> Float[np.ndarray, "68 2"]:
    """Another expression and pose of the same face: lids lowered, mouth opened or widened, head turned a little."""
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


def _shaded(frame: Float[Tensor, "1 3 h w"], random: np.random.Generator) -> Float[Tensor, "1 3 h w"]:
    """Brightness and contrast a little different, so that held-out variants are not the training pictures."""
    return (frame * random.uniform(0.9, 1.1) + random.uniform(-0.06, 0.06)).clamp(-1, 1)
