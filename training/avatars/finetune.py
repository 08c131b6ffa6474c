"""Few-shot fine-tuning (arXiv 1905.08233, section 3.3): an avatar of one person from a base model and T pictures."""

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
from training.avatars.training_frames import TrainingFrames, crop_portraits, make_training_frames
from training.checkpoints.bundle import BaseModel
from training.device import in_batches
from training.losses.loss_networks import LossNetworks, load_loss_networks
from training.losses.perceptual_files import PerceptualFiles
from training.losses.terms import adversarial, discriminator_hinge, distances, feature_matching, weighted_sum
from training.models.discriminator import Discriminator
from training.models.generator import Generator

MAX_PORTRAITS = 64
CPU = torch.device("cpu")
_BATCH = 16  # of frames without gradients; fewer where the device's memory is small
_FRAMES_PER_STEP = 4
_LEARNING_RATE, _LEARNING_RATE_DISCRIMINATOR = 5e-5, 2e-4  # the paper's; higher rates are worse (docs/experiments.md)
_CHECK_EVERY = 10  # steps between two measurements of the held-out error
_PATIENCE = 3  # checks without improvement before training stops
_MIN_IMPROVEMENT = 0.995  # a check counts as an improvement if it lowers the error at least by this factor
# With a warp prior, weights are interpolated between the base model's (0) and the fine-tuned ones (1): new frames are
# better in between than at either end (Wortsman et al., Robust fine-tuning of zero-shot models, 2021;
# docs/experiments.md).
_TUNED_FRACTION = 0.6


@dataclass(frozen=True)
class FineTuneConfig:
    """Length and seed of fine-tuning."""

    num_steps: int | None = None
    """Generator updates. Default: until the error on held-out pictures, or variants of them, stops falling; at most 125
    for one picture and 230 for thirty or more. With a warp prior and fewer than four frames of one clip, none: warped
    copies of one picture teach the network to trust the warp, which helps real people only (docs/experiments.md)."""
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
    device: torch.device = CPU,
) -> Avatar:
    """Make an avatar. It is on the CPU.

    Args:
        on_step: called after each update with (step, maximum number of steps, loss terms).
        perceptual_files: where the weights of the published content loss are, for a model trained with it.
        device: where it is computed.

    Raises:
        ValueError: no portraits, or more than `MAX_PORTRAITS`; or the perceptual network is not available, see
            `load_perceptual`.
        AssetError, OSError: the weights of the face recogniser, which the model's losses use, are not available.
        torch.OutOfMemoryError: the device's memory does not suffice for the networks and a batch of four.
    """
    if not 1 <= len(portraits) <= MAX_PORTRAITS:
        raise ValueError(f"fine-tuning takes 1 to {MAX_PORTRAITS} pictures, got {len(portraits)}")
    torch.manual_seed(config.seed)
    random = np.random.default_rng(config.seed)
    state = _TunedState.start(model, tuple(portraits), device)
    frames = None
    if config.num_steps != 0:
        frames = make_training_frames(model.config.model, portraits, random, config.num_steps, device)
    if frames is None:
        return state.avatar(0)
    max_steps = config.num_steps or _max_steps(len(portraits))
    loss_networks = load_loss_networks(model.config, perceptual_files).to(device)
    train, held_out = _with_activations(frames[0], loss_networks), frames[1]
    trainer = _Trainer(state, loss_networks)
    best_error, best, checks_since_best = math.inf, state.avatar(0), 0
    if config.num_steps is None:
        held_out = _with_activations(held_out, loss_networks)
        best_error = trainer.error(held_out)
    for step in range(1, max_steps + 1):
        chosen = torch.from_numpy(random.permutation(len(train))[:_FRAMES_PER_STEP])
        terms = trainer.step(train[chosen.to(device)])
        if on_step is not None:
            on_step(step, max_steps, terms)
        if config.num_steps is None and (step % _CHECK_EVERY == 0 or step == max_steps):
            error = trainer.error(held_out)
            checks_since_best += 1
            if error < _MIN_IMPROVEMENT * best_error:
                best_error, best, checks_since_best = error, state.avatar(step), 0
            if checks_since_best >= _PATIENCE:
                break
    return best if config.num_steps is None else state.avatar(max_steps)


@dataclass(frozen=True)
class _TunedState:
    """The base model, and copies of its networks and AdaIN values on the device, which fine-tuning changes in place."""

    model: BaseModel
    portraits: tuple[Portrait, ...]
    generator: Generator
    discriminator: Discriminator
    adain: nn.Parameter
    base_adain: Tensor

    @classmethod
    def start(cls, model: BaseModel, portraits: tuple[Portrait, ...], device: torch.device) -> "_TunedState":
        """psi' = P e_hat, and w' = w0 + e_hat (section 3.3)."""
        generator, discriminator = deepcopy(model.generator).to(device), deepcopy(model.discriminator).to(device)
        embedding = _embed(model, portraits, device)
        adain = nn.Parameter(generator.adain_values(embedding).detach())
        with torch.no_grad():
            discriminator.w0.add_(embedding[0])
        return cls(model, portraits, generator, discriminator, adain, adain.detach().clone())

    @torch.no_grad()
    def avatar(self, steps: int) -> Avatar:
        """Copy the present weights into an avatar; with a warp prior, interpolated with the base model's."""
        generator = deepcopy(self.generator).to(CPU).eval().requires_grad_(False)
        adain, base_adain = self.adain.detach().clone().to(CPU), self.base_adain.to(CPU)
        if steps and self.model.config.model.warp_prior:
            adain.lerp_(base_adain, 1 - _TUNED_FRACTION)
            for tuned, base in zip(generator.parameters(), self.model.generator.parameters(), strict=True):
                tuned.lerp_(base.to(CPU), 1 - _TUNED_FRACTION)
        return Avatar(
            config=self.model.config.model,
            generator=generator,
            adain_values=adain,
            portraits=self.portraits,
            steps=steps,
            base_version=self.model.version,
            lineage=self.model.lineage,
        )


class _Trainer:
    """Updates (psi, psi') and (theta, w', b) with new optimisers (section 3.3, without the embedding match).

    There is no pixel loss: with so few pictures it would blur whatever is slightly misaligned.
    """

    def __init__(self, state: _TunedState, loss_networks: LossNetworks) -> None:
        config = state.model.config
        self.weights, self.discriminator_updates = config.losses, config.discriminator_updates
        self.generator, self.discriminator, self.adain = (
            state.generator.train(),
            state.discriminator.train(),
            state.adain,
        )
        self.loss_networks = loss_networks
        # AdaIN values are trained directly, so their projection P is not used.
        trained = [p for name, p in self.generator.named_parameters() if not name.startswith("projection.")]
        betas = (0.0, 0.999)
        self.generator_optimizer = torch.optim.Adam([*trained, self.adain], _LEARNING_RATE, betas)
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), _LEARNING_RATE_DISCRIMINATOR, betas
        )
        self.no_row = torch.zeros(1, config.model.embedding_size, device=state.adain.device)

    def step(self, frames: TrainingFrames) -> dict[str, float]:
        """Update the discriminator, then the generator; return the unweighted loss terms."""
        generated = self.generator(frames.landmark_image, self._adain(frames), frames.warped)
        for _ in range(self.discriminator_updates):
            self.discriminator_optimizer.zero_grad()
            real = self.discriminator(frames.target, frames.landmark_image, self.no_row).score
            fake = self.discriminator(generated.frame.detach(), frames.landmark_image, self.no_row).score
            hinge = discriminator_hinge(real, fake)
            hinge.backward()
            self.discriminator_optimizer.step()
        with torch.no_grad():
            real_features = self.discriminator(frames.target, frames.landmark_image, self.no_row).features
        # The generator's loss needs no gradients of the discriminator's weights.
        self.discriminator.requires_grad_(False)
        output = self.discriminator(generated.frame, frames.landmark_image, self.no_row)
        terms = {
            **distances(self.loss_networks(generated.frame, frames.landmarks), frames.activations),
            "adversarial": adversarial(output.score),
            "feature_matching": feature_matching(output.features, real_features),
        }
        self.generator_optimizer.zero_grad()
        weighted_sum(terms, self.weights).backward()
        self.discriminator.requires_grad_(True)
        self.generator_optimizer.step()
        return {name: float(term.detach()) for name, term in terms.items()} | {"discriminator": float(hinge.detach())}

    @torch.no_grad()
    def error(self, frames: TrainingFrames) -> float:
        """Return the content loss of held-out frames. Adding the identity loss did not change the number of steps."""
        self.generator.eval()
        errors = in_batches(lambda batch: self._error(frames[batch]) * len(frames[batch]), len(frames), _BATCH)
        self.generator.train()
        return math.fsum(errors) / len(frames)

    def _error(self, frames: TrainingFrames) -> float:
        generated = self.generator(frames.landmark_image, self._adain(frames), frames.warped)
        content = distances(self.loss_networks.perceptual(generated.frame), frames.activations)
        return float(weighted_sum(content, self.weights))

    def _adain(self, frames: TrainingFrames) -> Float[Tensor, "batch values"]:
        return self.adain.expand(len(frames), -1)


@torch.no_grad()
def _with_activations(frames: TrainingFrames, loss_networks: LossNetworks) -> TrainingFrames:
    """Add the loss networks' activations of the targets, which all steps share."""
    parts = in_batches(lambda batch: loss_networks(frames.target[batch], frames.landmarks[batch]), len(frames), _BATCH)
    layers = {term: zip(*(part[term] for part in parts), strict=True) for term in parts[0]}
    return replace(frames, activations={term: [torch.cat(layer) for layer in each] for term, each in layers.items()})


def _max_steps(num_portraits: int) -> int:
    """Return 125 for one picture, rising linearly to 230 for thirty or more, as a co-author later advised."""
    return round(125 + (230 - 125) * min(num_portraits - 1, 29) / 29)


@torch.no_grad()
def _embed(model: BaseModel, portraits: Sequence[Portrait], device: torch.device) -> Float[Tensor, "1 embedding"]:
    config = model.config.model
    affines = [portrait.affine(config, config.frame_size) for portrait in portraits]
    shots = crop_portraits(config, portraits, affines, device)
    embedder = model.embedder if device == CPU else deepcopy(model.embedder).to(device)
    return embedder.embed_shots(shots.frames[None], shots.landmark_images[None])
