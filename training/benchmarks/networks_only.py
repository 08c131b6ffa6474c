"""The networks of a training step alone: the yardstick for what the step adds to them."""

import torch
from torch import Tensor

from training.episodes.batch import Batch
from training.meta_training.step import Learner
from training.models.layers import advance_spectral_norms, normalised_once


class NetworksOnly:
    """The forward and backward passes of `Learner.step` on one batch, and nothing else.

    The same networks see the same pictures in the same order and modes: E on the shots and G on the target with their
    graphs; D on real and generated frames together, backward into its weights, as often as the step updates it; D and
    the critics on the real frames without a graph, then on the generated ones, backward through them (their
    own weights frozen) into G and E. Dividing weights by their spectral norms belongs to the layers and is done as the
    step does it. Left out are the losses (backward starts from gradients made beforehand, of the outputs' shapes), the
    optimisers, the averages, the identity rows, the gradients' norms, the metrics and the check for what is not finite.
    """

    def __init__(self, learner: Learner, batch: Batch) -> None:
        self.learner, self.batch = learner, batch
        with torch.no_grad():
            self._identity = learner.table.rows[batch.rows].clone()
        self._gradients: list[Tensor] | None = None

    def __call__(self) -> None:
        """All passes once; gradients of the weights are left for the caller to drop."""
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
            verdict = learner.discriminator(frame, batch.target_landmark_image, self._identity)
            seen = learner.loss_networks(frame, batch.target_landmarks)
        activations = [layer for layers in seen.values() for layer in layers]
        outputs = [embedding, verdict.score, *verdict.features, *activations]
        if self._gradients is None:
            self._gradients = [torch.full_like(output, 1 / output.numel()) for output in outputs]
        torch.autograd.backward(outputs, self._gradients)

    def _autocast(self) -> torch.autocast:
        bfloat16 = self.learner.config.engine.precision == "bfloat16"
        return torch.autocast(self.learner.device.type, torch.bfloat16, enabled=bfloat16)
