"""Few-shot fine-tuning (arXiv 1905.08233, section 3.3): a base model and T pictures -> an avatar of one person."""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
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
from training import losses
from training.avatar import Avatar
from training.checkpoint import BaseModel
from training.config import ModelConfig
from training.critics import Critics, load_critics
from training.images import matte_tensor, resize_points, to_images, to_tensor
from training.models.shots import make_shot
from training.models.warp import Bend, WarpedShot, bend, control_points, unit_points, warp_person, warp_shot
from training.nearest import warp_distances
from training.perceptual_files import PerceptualFiles
from training.portraits import Portrait

MAX_PORTRAITS = 64
_FRAMES_PER_STEP = 4
_LEARNING_RATE, _LEARNING_RATE_DISCRIMINATOR = 5e-5, 2e-4  # the paper's; faster is worse (docs/evaluation.md)
_CHECK_EVERY = 10
_PATIENCE = 3
_WORTHWHILE = 0.995  # a check must lower the error by this factor to count
_VARIANTS_PER_PORTRAIT = 6
_ENOUGH_FOR_PAIRS = 4  # pictures, of which every fourth is held out as a target
_SOURCES_EACH = 3  # the nearest others of a target: what drawing starts from. Far ones teach to distrust the warp
_SAME_SCENE = 0.2  # mean distance in [-1, 1] of a picture to another bent to it, beyond which light or clothes differ
# How far weights move from the base model's to the tuned ones with a warp prior: between the two new frames are better
# than at either end (Wortsman et al., Robust fine-tuning of zero-shot models, 2021; docs/evaluation.md).
_SHARE_OF_TUNED = 0.6
_FINE = 4  # variants are warped at this multiple of the network's size, so that sampling twice does not blur


@dataclass(frozen=True)
class FineTuneConfig:
    """How long and how carefully."""

    num_steps: int | None = None
    """Generator updates; by default as many as lower the error on pictures, or variants of them, that are held out, at
    most 125 for one picture and 230 for thirty or more. With a warp prior none where there are not four frames of one
    film: bent copies of a picture teach to trust the warp, which only real people are better for
    (docs/evaluation.md)."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_steps is not None and self.num_steps < 0:
            raise ValueError(f"num_steps must not be negative, got {self.num_steps}")


@dataclass(frozen=True)
class _Frames:
    """Targets with what the generator sees of them, [-1, 1], and what critics see in them."""

    target: Float[Tensor, "batch 3 h w"]
    landmarks: Float[Tensor, "batch 68 2"]
    """The targets', in [-1, 1] across the edges."""
    landmark_image: Float[Tensor, "batch 3 h w"]
    warped: WarpedShot | None
    activations: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)

    def __getitem__(self, index: Tensor) -> "_Frames":
        warped = self.warped and self.warped[index]
        activations = {term: [layer[index] for layer in layers] for term, layers in self.activations.items()}
        return _Frames(self.target[index], self.landmarks[index], self.landmark_image[index], warped, activations)


def fine_tune(
    model: BaseModel,
    portraits: Sequence[Portrait],
    config: FineTuneConfig,
    on_step: Callable[[int, int, Mapping[str, float]], None] | None = None,
    perceptual_files: PerceptualFiles | None = None,
) -> Avatar:
    """Make an avatar.

    Args:
        on_step: called after each update with (step, most steps, loss terms).
        perceptual_files: where weights lie that the model was trained with and no registry carries.

    Raises:
        ValueError: no portraits, or more than `MAX_PORTRAITS`; or the perceptual network cannot be had, see
            `load_perceptual`.
        AssetError, OSError: the recogniser's weights, that of a model trained with its loss, cannot be had.
    """
    if not 1 <= len(portraits) <= MAX_PORTRAITS:
        raise ValueError(f"fine-tuning takes 1 to {MAX_PORTRAITS} pictures, got {len(portraits)}")
    torch.manual_seed(config.seed)
    random = np.random.default_rng(config.seed)
    generator, discriminator = deepcopy(model.generator), deepcopy(model.discriminator)
    embedding = _embed(model, portraits)
    adain = nn.Parameter(generator.adain_values(embedding).detach())
    with torch.no_grad():
        discriminator.w0.add_(embedding[0])
    avatar_of = _AvatarMaker(model, portraits, generator, adain)
    frames = None if config.num_steps == 0 else _to_learn(model.config.model, portraits, random, config.num_steps)
    if frames is None:
        return avatar_of(0)
    most = config.num_steps or _most_steps(len(portraits))
    critics = load_critics(model.config, perceptual_files)
    train, held_out = _seen(frames[0], critics), frames[1]
    tuner = _Tuner(model, generator, discriminator, adain, critics)
    best_error, best, since_best = math.inf, avatar_of(0), 0
    if config.num_steps is None:
        held_out = _seen(held_out, critics)
        best_error = tuner.error(held_out)
    for step in range(1, most + 1):
        terms = tuner.step(train[torch.from_numpy(random.permutation(len(train.target))[:_FRAMES_PER_STEP])])
        if on_step is not None:
            on_step(step, most, terms)
        if config.num_steps is None and (step % _CHECK_EVERY == 0 or step == most):
            error = tuner.error(held_out)
            since_best += 1
            if error < _WORTHWHILE * best_error:
                best_error, best, since_best = error, avatar_of(step), 0
            if since_best >= _PATIENCE:
                break
    return best if config.num_steps is None else avatar_of(most)


class _AvatarMaker:
    """Copies the state of fine-tuning into an avatar, with a warp prior part of the way from where it began."""

    def __init__(
        self, model: BaseModel, portraits: Sequence[Portrait], generator: nn.Module, adain: nn.Parameter
    ) -> None:
        self.model, self.portraits, self.generator, self.adain = model, tuple(portraits), generator, adain
        self.base_adain = adain.detach().clone()

    @torch.no_grad()
    def __call__(self, steps: int) -> Avatar:
        generator, adain = deepcopy(self.generator).eval().requires_grad_(False), self.adain.detach().clone()
        if steps and self.model.config.model.warp_prior:
            adain.lerp_(self.base_adain, 1 - _SHARE_OF_TUNED)
            for tuned, base in zip(generator.parameters(), self.model.generator.parameters(), strict=True):
                tuned.lerp_(base, 1 - _SHARE_OF_TUNED)
        return Avatar(
            config=self.model.config.model,
            generator=generator,  # type: ignore[arg-type]
            adain_values=adain,
            portraits=self.portraits,
            steps=steps,
            base_version=self.model.version,
        )


class _Tuner:
    """Fresh optimisers on (psi, psi') and (theta, w', b), as section 3.3 has it: no embedding match.

    Nor is there a loss of pixels: of so few pictures it would make what lies a little off blurred.
    """

    def __init__(
        self,
        model: BaseModel,
        generator: nn.Module,
        discriminator: nn.Module,
        adain: nn.Parameter,
        critics: Critics,
    ) -> None:
        self.weights = model.config.losses
        self.discriminator_updates = model.config.discriminator_updates
        self.generator, self.discriminator, self.adain = generator.train(), discriminator.train(), adain
        self.critics = critics
        free = [p for name, p in generator.named_parameters() if not name.startswith("projection.")]
        betas = (0.0, 0.999)
        self.generator_optimizer = torch.optim.Adam([*free, adain], _LEARNING_RATE, betas)
        self.discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), _LEARNING_RATE_DISCRIMINATOR, betas)
        self.no_row = torch.zeros(1, model.config.model.embedding_size)

    def step(self, frames: _Frames) -> dict[str, float]:
        generated = self.generator(frames.landmark_image, self._adain(frames), frames.warped)
        for _ in range(self.discriminator_updates):
            self.discriminator_optimizer.zero_grad()
            real = self.discriminator(frames.target, frames.landmark_image, self.no_row).score
            fake = self.discriminator(generated.frame.detach(), frames.landmark_image, self.no_row).score
            hinge = losses.discriminator_hinge(real, fake)
            hinge.backward()
            self.discriminator_optimizer.step()
        with torch.no_grad():
            real_features = self.discriminator(frames.target, frames.landmark_image, self.no_row).features
        # As in meta-learning: the discriminator's own gradients would be thrown away.
        self.discriminator.requires_grad_(False)
        verdict = self.discriminator(generated.frame, frames.landmark_image, self.no_row)
        terms = {
            **losses.distances(self.critics(generated.frame, frames.landmarks), frames.activations),
            "adversarial": losses.adversarial(verdict.score),
            "feature_matching": losses.feature_matching(verdict.features, real_features),
        }
        self.generator_optimizer.zero_grad()
        losses.weighted_sum(terms, self.weights).backward()
        self.discriminator.requires_grad_(True)
        self.generator_optimizer.step()
        return {name: float(term.detach()) for name, term in terms.items()} | {"discriminator": float(hinge.detach())}

    @torch.no_grad()
    def error(self, frames: _Frames) -> float:
        """Content loss of whole frames not trained on: with identity beside it the steps were as many."""
        self.generator.eval()
        generated = self.generator(frames.landmark_image, self._adain(frames), frames.warped)
        self.generator.train()
        content = losses.distances(self.critics.perceptual(generated.frame), frames.activations)
        return float(losses.weighted_sum(content, self.weights))

    def _adain(self, frames: _Frames) -> Float[Tensor, "batch values"]:
        return self.adain.expand(len(frames.target), -1)


@torch.no_grad()
def _seen(frames: _Frames, critics: Critics) -> _Frames:
    """The same frames with what critics see in the targets: computed once for all steps."""
    return replace(frames, activations=critics(frames.target, frames.landmarks))


def _most_steps(num_portraits: int) -> int:
    """The co-author's later advice: 125 updates for one picture, 230 for thirty and more."""
    return round(125 + (230 - 125) * min(num_portraits - 1, 29) / 29)


@torch.no_grad()
def _embed(model: BaseModel, portraits: Sequence[Portrait]) -> Float[Tensor, "1 embedding"]:
    config = model.config.model
    shots = _crops(config, portraits, [portrait.affine(config, config.frame_size) for portrait in portraits])
    return model.embedder.embed_shots(shots.frames[None], shots.landmark_images[None])


@dataclass(frozen=True)
class _Crops:
    """The pictures as the networks see them; landmarks in pixels."""

    fine: Float[Tensor, "shots 3 fine fine"]
    """As large as a warp wants them: `ModelConfig.frame_size`."""
    fine_landmarks: Float[np.ndarray, "shots 68 2"]
    frames: Float[Tensor, "shots 3 h w"]
    landmarks: Float[np.ndarray, "shots 68 2"]
    landmark_images: Float[Tensor, "shots 3 h w"]


def _crops(config: ModelConfig, portraits: Sequence[Portrait], affines: Sequence[Float64[np.ndarray, "2 3"]]) -> _Crops:
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


def _to_learn(
    config: ModelConfig, portraits: Sequence[Portrait], random: np.random.Generator, num_steps: int | None
) -> tuple[_Frames, _Frames] | None:
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


def _pairs(config: ModelConfig, portraits: Sequence[Portrait], *, hold_out: bool) -> tuple[_Frames, _Frames] | None:
    """Each picture as the target of those nearest to it, bent, which is what animating will ask for.

    To `hold_out` makes every fourth a target of the check alone; it is a source all the same. None where the pictures
    are not of one scene: another light or other clothes are nothing to learn to paint.
    """
    total = len(portraits)
    # One crop for all, as training has it for a clip: what surrounds the head stays where it is.
    affine = crop_affine(np.stack([portrait.landmarks for portrait in portraits]), config.crop, config.frame_size)
    crops = _crops(config, portraits, [affine] * total)
    distances = warp_distances(crops.landmarks, crops.landmarks, config.image_size)
    np.fill_diagonal(distances, np.inf)
    sources = distances.argsort(axis=1)[:, :_SOURCES_EACH].reshape(-1)
    targets = np.arange(total).repeat(_SOURCES_EACH)
    points = torch.from_numpy(control_points(crops.landmarks, config.image_size))
    shots = _shots(PersonSegmenter(), crops.fine, crops.fine_landmarks)
    warped = warp_shot(shots[sources], crops.landmark_images[sources], points[sources], points[targets])
    frames = _Frames(crops.frames[targets], points[targets, :NUM_LANDMARKS], crops.landmark_images[targets], warped)
    alike = (warped.frame[:, :3] - frames.target).abs().mean(dim=(1, 2, 3)) < _SAME_SCENE
    is_held_out = torch.from_numpy(targets % _ENOUGH_FOR_PAIRS == _ENOUGH_FOR_PAIRS - 1) & hold_out
    train, held_out = frames[alike & ~is_held_out], frames[alike & is_held_out]
    if alike.sum() < len(alike) / 2 or (hold_out and not len(held_out.target)):
        return None
    return train, held_out


def _variants(
    config: ModelConfig, portraits: Sequence[Portrait], random: np.random.Generator
) -> tuple[_Frames, _Frames]:
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
    frames = _Frames(
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
    tensors = ((s.bend.spline, s.bend.source, s.bend.target, s.shot, s.frame, s.landmark_image) for s in shots)
    spline, source, target, shot, frame, image = map(torch.cat, zip(*tensors, strict=True))
    return WarpedShot(shot, Bend(spline, source, target), frame, image)


def _bent_variant(
    config: ModelConfig, portrait: Portrait, random: np.random.Generator, segmenter: PersonSegmenter
) -> _Frames:
    size, fine = config.image_size, config.image_size * _FINE
    image, fine_landmarks = portrait.crop(config, fine)
    frame = _shaded(to_tensor(image[None], torch.device("cpu")), random)
    landmarks = resize_points(fine_landmarks, 1 / _FINE)
    own_image = rasterize_batch(torch.from_numpy(landmarks[None]), size, config.raster)
    target = F.avg_pool2d(frame, _FINE)
    if not config.warp_prior:
        return _Frames(target, torch.from_numpy(unit_points(landmarks, size))[None], own_image, None)
    bent = bend_face(landmarks, random)
    bent_image = rasterize_batch(torch.from_numpy(bent[None]), size, config.raster)
    own, other = (torch.from_numpy(control_points(points, size))[None] for points in (landmarks, bent))
    shot = _shots(segmenter, frame, fine_landmarks[None])
    bent_frame, bent_matte = warp_person(shot, bend(own, other)).split([3, 1], dim=1)
    warped = warp_shot(make_shot(bent_frame, bent_matte[:, 0]), bent_image, other, own)
    return _Frames(target, own[:, :NUM_LANDMARKS], own_image, warped)


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
