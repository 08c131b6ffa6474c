"""One step of meta-learning: discriminator phases, generator phase, identity rows, moving averages.

Section 3.2 of arXiv 1905.08233. The step knows nothing of files, workers' start-up or logging.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from training import losses
from training.config import TrainConfig
from training.ema import EMA
from training.exchange import Exchange
from training.models.discriminator import Discriminator
from training.models.embedder import Embedder
from training.models.generator import GeneratedFrame, Generator
from training.models.warp import WarpedShot
from training.perceptual import PerceptualNetwork
from training.row_table import RowTable


@dataclass(frozen=True)
class Batch:
    """Episodes on the device that trains: K shots and a target of one video each. Pictures in [-1, 1]."""

    rows: Int[Tensor, "batch"]
    shots: Float[Tensor, "batch shots 3 h w"]
    shot_landmark_images: Float[Tensor, "batch shots 3 h w"]
    target: Float[Tensor, "batch 3 h w"]
    target_landmark_image: Float[Tensor, "batch 3 h w"]
    warped: WarpedShot | None


class NotFiniteError(ArithmeticError):
    """A gradient was not a number; the phase was skipped and no weight changed by it."""


class Learner:
    """The networks, their optimisers and W, and how one batch changes them."""

    def __init__(
        self,
        config: TrainConfig,
        table: RowTable,
        perceptual: PerceptualNetwork,
        exchange: Exchange,
        device: torch.device,
    ) -> None:
        self.config, self.exchange, self.device = config, exchange, device
        # Every worker starts from the same weights without a broadcast.
        torch.manual_seed(config.seed)
        self.embedder = Embedder(config.model).to(device)
        self.generator = Generator(config.model).to(device)
        self.discriminator = Discriminator(config.model).to(device)
        self.table = table.to(device)
        self.perceptual = perceptual.to(device)
        betas = (0.0, 0.999)
        self.generator_parameters = [*self.embedder.parameters(), *self.generator.parameters()]
        self.generator_optimizer = torch.optim.Adam(self.generator_parameters, config.learning_rate, betas)
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), config.learning_rate_discriminator, betas
        )
        self.embedder_ema = EMA(self.embedder, config.ema_decay, warm_up=config.ema_warm_up)
        self.generator_ema = EMA(self.generator, config.ema_decay, warm_up=config.ema_warm_up)

    def step(self, batch: Batch) -> dict[str, float]:
        """Update everything once; the loss terms of this worker's episodes, unweighted, by name.

        Raises:
            NotFiniteError: a gradient was not finite on some worker; all workers raise alike.
        """
        embedding = self.embedder.embed_shots(batch.shots, batch.shot_landmark_images)
        generated = self.generator(batch.target_landmark_image, self.generator.adain_values(embedding), batch.warped)
        metrics: dict[str, float] = {}
        for _ in range(self.config.discriminator_updates):
            metrics |= self._discriminator_phase(batch, generated.frame.detach())
        metrics |= self._generator_phase(batch, embedding, generated)
        self.embedder_ema.update(self.embedder)
        self.generator_ema.update(self.generator)
        return metrics

    def _discriminator_phase(self, batch: Batch, fake: Float[Tensor, "batch 3 h w"]) -> dict[str, float]:
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        rows = self.table.gather(batch.rows)
        # One pass over real and generated frames together; W learns from the real score alone.
        verdict = self.discriminator(
            torch.cat([batch.target, fake]),
            batch.target_landmark_image.repeat(2, 1, 1, 1),
            torch.cat([rows, rows.detach()]),
        )
        score_real, score_fake = verdict.score.chunk(2)
        loss = losses.discriminator_hinge(score_real, score_fake)
        loss.backward()
        norm = self.exchange.average_gradients(self.discriminator.parameters())
        self._update(self.discriminator_optimizer, norm, batch.rows, rows)
        return {
            "discriminator": float(loss.detach()),
            "score_real": float(score_real.detach().mean()),
            "score_fake": float(score_fake.detach().mean()),
            "gradient_norm_discriminator": norm,
        }

    def _generator_phase(
        self, batch: Batch, embedding: Float[Tensor, "batch size"], generated: GeneratedFrame
    ) -> dict[str, float]:
        self.generator_optimizer.zero_grad(set_to_none=True)
        rows = self.table.gather(batch.rows)
        with torch.no_grad():
            real_activations = self.perceptual(batch.target)
            real_features = self.discriminator(batch.target, batch.target_landmark_image, rows).features
        # The discriminator's own gradients would be thrown away: do not compute them.
        self.discriminator.requires_grad_(False)
        verdict = self.discriminator(generated.frame, batch.target_landmark_image, rows.detach())
        terms = {
            **losses.content(self.perceptual(generated.frame), real_activations),
            "adversarial": losses.adversarial(verdict.score),
            "feature_matching": losses.feature_matching(verdict.features, real_features),
            "embedding_match": losses.embedding_match(embedding, rows),
        }
        loss = losses.weighted_sum(terms, self.config.losses)
        loss.backward()
        self.discriminator.requires_grad_(True)
        norm = self.exchange.average_gradients(self.generator_parameters)
        self._update(self.generator_optimizer, norm, batch.rows, rows)
        metrics = {name: float(term.detach()) for name, term in terms.items()}
        if generated.alpha is not None:
            metrics["painted_share"] = float(1 - generated.alpha.detach().mean())
        return metrics | {"generator": float(loss.detach()), "gradient_norm_generator": norm}

    def _update(
        self, optimizer: torch.optim.Optimizer, norm: float, indices: Int[Tensor, "batch"], rows: Tensor
    ) -> None:
        gradients = rows.grad if rows.grad is not None else torch.zeros_like(rows)
        indices, gradients = self.exchange.gather_rows(indices, gradients)
        if not (torch.isfinite(torch.tensor(norm)) and torch.isfinite(gradients).all()):
            raise NotFiniteError(f"gradient norm {norm}")
        optimizer.step()
        self.table.apply(indices, gradients)

    def networks(self) -> Mapping[str, nn.Module]:
        return {"embedder": self.embedder, "generator": self.generator, "discriminator": self.discriminator}

    def optimizer_state(self) -> dict[str, Any]:
        """What a resume needs beside the weights: optimisers and the averages' counts."""
        return {
            "generator": self.generator_optimizer.state_dict(),
            "discriminator": self.discriminator_optimizer.state_dict(),
            "ema_updates": self.generator_ema.num_updates,
        }

    def load_optimizer_state(self, state: Mapping[str, Any]) -> None:
        self.generator_optimizer.load_state_dict(state["generator"])
        self.discriminator_optimizer.load_state_dict(state["discriminator"])
        self.embedder_ema.num_updates = self.generator_ema.num_updates = state["ema_updates"]
