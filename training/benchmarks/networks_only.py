"""The forward and backward passes of a training step without the rest: the reference for a step's overhead."""

import torch
from torch import Tensor

from training.episodes.batch import Batch
from training.meta_training.step import Learner
from training.models.layers import advance_spectral_norms, normalised_once


class NetworksOnly:
    """The forward and backward passes of `Learner.step` on one batch.

    The networks process the same frames in the same order and modes: E on the shots and G on the target, with graphs; D
    on real and generated frames together, backward into its weights, as often as the step updates it; D and the loss
    networks on the real frames without a graph, then on the generated ones, backward through them (with frozen weights)
    into G and E. Spectral normalisation is part of the layers and done as in the step. Left out are the losses
    (backward starts from constant gradients of the outputs), optimisers, averages, identity rows, gradient norms,
    metrics and the check for non-finite gradients.
    """

    def __init__(self, learner: Learner, batch: Batch) -> None:
        self.learner, self.batch = learner, batch
        with torch.no_grad():
            self._identity = learner.table.rows[batch.rows].clone()
        self._gradients: list[Tensor] | None = None

    def __call__(self) -> None:
        """Make all passes once, and discard the gradients."""
        learner, batch = self.learner, self.batch
        advance_spectral_norms(learner.embedder)
        advance_spectral_norms(learner.generator)
        with normalised_once(learner.embedder, learner.generator), self._autocast():
            embedding = learner.embedder.embed_shots(batch.shots, batch.shot_landmark_images)
            values = learner.generator.adain_values(embedding)
            frame = learner.generator(batch.target_landmark_image, values, batch.warped).frame
        for _ in range(learner.config.discriminator_updates):
            self._discriminator(frame.detach())
        learner.discriminator.requires_grad_(False)
        self._generator(embedding, frame)
        learner.discriminator.requires_grad_(True)
        for network in learner.networks().values():
            network.zero_grad(set_to_none=True)

    def _discriminator(self, fake: Tensor) -> None:
        learner, batch = self.learner, self.batch
        learner.discriminator.zero_grad(set_to_none=True)
        advance_spectral_norms(learner.discriminator)
        with normalised_once(learner.discriminator), self._autocast():
            frames = torch.cat([batch.target, fake])
            landmark_images, identity = batch.target_landmark_image.repeat(2, 1, 1, 1), self._identity.repeat(2, 1)
            score = learner.discriminator(frames, landmark_images, identity).score
        score.backward(torch.ones_like(score))

    def _generator(self, embedding: Tensor, frame: Tensor) -> None:
        learner, batch = self.learner, self.batch
        advance_spectral_norms(learner.discriminator)
        with normalised_once(learner.discriminator), self._autocast():
            with torch.no_grad():
                learner.loss_networks(batch.target, batch.target_landmarks)
                learner.discriminator(batch.target, batch.target_landmark_image, self._identity)
            output = learner.discriminator(frame, batch.target_landmark_image, self._identity)
            activations_by_term = learner.loss_networks(frame, batch.target_landmarks)
        activations = [layer for layers in activations_by_term.values() for layer in layers]
        outputs = [embedding, output.score, *output.features, *activations]
        if self._gradients is None:
            self._gradients = [torch.full_like(each, 1 / each.numel()) for each in outputs]
        torch.autograd.backward(outputs, self._gradients)

    def _autocast(self) -> torch.autocast:
        bfloat16 = self.learner.config.engine.precision == "bfloat16"
        return torch.autocast(self.learner.device.type, torch.bfloat16, enabled=bfloat16)
