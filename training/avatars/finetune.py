"""Few-shot fine-tuning (arXiv 1905.08233, section 3.3): a base model and T pictures -> an avatar of one person."""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.avatars.avatar import Avatar
from training.avatars.portraits import Portrait
from training.avatars.training_frames import TrainingFrames, cut_crops, training_frames
from training.checkpoints.bundle import BaseModel
from training.losses import terms as losses
from training.losses.loss_networks import LossNetworks, load_loss_networks
from training.losses.perceptual_files import PerceptualFiles

MAX_PORTRAITS = 64
_FRAMES_PER_STEP = 4
_LEARNING_RATE, _LEARNING_RATE_DISCRIMINATOR = 5e-5, 2e-4  # the paper's; faster is worse (docs/evaluation.md)
_CHECK_EVERY = 10
_PATIENCE = 3
_WORTHWHILE = 0.995  # a check must lower the error by this factor to count
# How far weights move from the base model's to the tuned ones with a warp prior: between the two new frames are better
# than at either end (Wortsman et al., Robust fine-tuning of zero-shot models, 2021; docs/evaluation.md).
_SHARE_OF_TUNED = 0.6


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
    frames = None if config.num_steps == 0 else training_frames(model.config.model, portraits, random, config.num_steps)
    if frames is None:
        return avatar_of(0)
    most = config.num_steps or _most_steps(len(portraits))
    critics = load_loss_networks(model.config, perceptual_files)
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
        critics: LossNetworks,
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

    def step(self, frames: TrainingFrames) -> dict[str, float]:
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
    def error(self, frames: TrainingFrames) -> float:
        """Content loss of whole frames not trained on: with identity beside it the steps were as many."""
        self.generator.eval()
        generated = self.generator(frames.landmark_image, self._adain(frames), frames.warped)
        self.generator.train()
        content = losses.distances(self.critics.perceptual(generated.frame), frames.activations)
        return float(losses.weighted_sum(content, self.weights))

    def _adain(self, frames: TrainingFrames) -> Float[Tensor, "batch values"]:
        return self.adain.expand(len(frames.target), -1)


@torch.no_grad()
def _seen(frames: TrainingFrames, critics: LossNetworks) -> TrainingFrames:
    """The same frames with what critics see in the targets: computed once for all steps."""
    return replace(frames, activations=critics(frames.target, frames.landmarks))


def _most_steps(num_portraits: int) -> int:
    """The co-author's later advice: 125 updates for one picture, 230 for thirty and more."""
    return round(125 + (230 - 125) * min(num_portraits - 1, 29) / 29)


@torch.no_grad()
def _embed(model: BaseModel, portraits: Sequence[Portrait]) -> Float[Tensor, "1 embedding"]:
    config = model.config.model
    shots = cut_crops(config, portraits, [portrait.affine(config, config.frame_size) for portrait in portraits])
    return model.embedder.embed_shots(shots.frames[None], shots.landmark_images[None])
