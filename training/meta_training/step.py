"""One step of meta-learning (arXiv 1905.08233, section 3.2): discriminator phases, generator phase, identity rows,
moving averages.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from training.config import TrainConfig
from training.device import compiles
from training.episodes.batch import Batch
from training.losses.loss_networks import LossNetworks
from training.losses.terms import (
    adversarial,
    discriminator_hinge,
    distances,
    embedding_match,
    feature_matching,
    pixel,
    weighted_sum,
)
from training.meta_training.collectives import Exchange
from training.meta_training.ema import EMA
from training.models.discriminator import Discriminator
from training.models.embedder import Embedder
from training.models.generator import GeneratedFrame, Generator
from training.models.identity_rows import IdentityRows
from training.models.layers import advance_spectral_norms, normalised_once

_Network = TypeVar("_Network", bound=nn.Module)


@dataclass(frozen=True)
class Outcome:
    """What a step returns, on the device: reading it waits for the step."""

    metrics: dict[str, Tensor]
    """Unweighted loss terms and other metrics by name; their sum over workers is the mean over the step's episodes."""
    finite: Bool[Tensor, ""]
    """Whether all gradients were, on all workers; from the first phase on in which one was not, no weights changed."""
    norm: Float[Tensor, ""]
    """Of the gradients of that phase, else of the last."""


@dataclass(frozen=True)
class _Generated:
    """Outputs of E and G for a batch."""

    embedding: Float[Tensor, "batch size"]
    output: GeneratedFrame


class Learner:
    """The networks, their optimisers and W, with the update for one batch.

    The networks stay in evaluation mode: `step` makes spectral norm's power iterations, once per phase rather than in
    every forward pass.
    """

    def __init__(
        self,
        config: TrainConfig,
        table: IdentityRows,
        loss_networks: LossNetworks,
        exchange: Exchange,
        device: torch.device,
    ) -> None:
        self.config, self.exchange, self.device = config, exchange, device
        # The seed gives every worker the same initial weights without a broadcast.
        torch.manual_seed(config.seed)
        self.embedder = self._prepare(Embedder(config.model))
        self.generator = self._prepare(Generator(config.model))
        self.discriminator = self._prepare(Discriminator(config.model))
        self.loss_networks = self._prepare(loss_networks)
        self.table = table.to(device)
        self.generator_parameters = [*self.embedder.parameters(), *self.generator.parameters()]
        self.generator_optimizer = self._adam(self.generator_parameters, config.learning_rate)
        self.discriminator_parameters = [*self.discriminator.parameters()]
        self.discriminator_optimizer = self._adam(self.discriminator_parameters, config.learning_rate_discriminator)
        self._begin()
        self.embedder_ema = EMA(self.embedder, config.ema_decay, warm_up=config.ema_warm_up)
        self.generator_ema = EMA(self.generator, config.ema_decay, warm_up=config.ema_warm_up)

    def _prepare(self, network: _Network) -> _Network:
        engine = self.config.engine
        network = network.eval().to(self.device)
        if engine.channels_last:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if compiles(engine.compile, self.device):
            network.compile()
        return network

    def _adam(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
        # Fused: one kernel for all weights, which leaves them as they are if `found_inf` says so, on the device.
        return torch.optim.Adam(parameters, learning_rate, (0.0, 0.999), fused=True)

    def step(self, batch: Batch, num_episodes: int | None = None) -> Outcome:
        """Update all networks, W and the averages once. Does not wait for the device.

        Args:
            batch: this worker's episodes.
            num_episodes: number of episodes of all workers; default: the same number on each.
        """
        total = num_episodes or len(batch) * self.exchange.world_size
        parts = batch.split(self.config.engine.micro_batch)
        advance_spectral_norms(self.embedder)
        advance_spectral_norms(self.generator)
        # A batch in one part is generated once for all phases. With several parts, each is generated again in the
        # generator phase, so that the activations of only one are in memory.
        generated = self._generate(batch) if len(parts) == 1 else None
        with torch.no_grad():
            fakes = [(generated or self._generate(part)).output.frame.detach() for part in parts]
        metrics: dict[str, Tensor] = {}
        self._begin()
        for _ in range(self.config.discriminator_updates):
            metrics |= self._discriminator_phase(parts, fakes, total)
        metrics |= self._generator_phase(parts, generated, total)
        self.embedder_ema.update(self.embedder, self._finite)
        self.generator_ema.update(self.generator, self._finite)
        return Outcome(metrics, self._finite, self._norm)

    def _begin(self) -> None:
        self._finite = torch.ones((), dtype=torch.bool, device=self.device)
        self._norm = torch.zeros((), device=self.device)

    def _generate(self, batch: Batch) -> _Generated:
        with normalised_once(self.embedder, self.generator), self._autocast():
            embedding = self.embedder.embed_shots(batch.shots, batch.shot_landmark_images)
            values = self.generator.adain_values(embedding)
            return _Generated(embedding, self.generator(batch.target_landmark_image, values, batch.warped))

    def _discriminator_phase(
        self, parts: Sequence[Batch], fakes: Sequence[Float[Tensor, "..."]], total: int
    ) -> dict[str, Tensor]:
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        advance_spectral_norms(self.discriminator)
        metrics: dict[str, Tensor] = {}
        gradients = []
        for part, fake in zip(parts, fakes, strict=True):
            rows = self.table.gather(part.rows)
            with normalised_once(self.discriminator), self._autocast():
                # One pass over real and generated frames; W gets gradients from the real score only.
                output = self.discriminator(
                    torch.cat([part.target, fake]),
                    part.target_landmark_image.repeat(2, 1, 1, 1),
                    torch.cat([rows, rows.detach()]),
                )
            score_real, score_fake = output.score.chunk(2)
            loss = discriminator_hinge(score_real, score_fake)
            with self.exchange.overlap(self.discriminator_parameters, part is parts[-1]):
                (loss * (len(part) / total)).backward()
            gradients.append(_gradient(rows))
            terms = {"discriminator": loss, "score_real": score_real.mean(), "score_fake": score_fake.mean()}
            _add(metrics, terms, len(part) / total)
        norm = self.exchange.sum_gradients(self.discriminator_parameters)
        self._update(self.discriminator_optimizer, norm, parts, gradients, total)
        return metrics | {"gradient_norm_discriminator": norm * (sum(map(len, parts)) / total)}

    def _generator_phase(self, parts: Sequence[Batch], generated: _Generated | None, total: int) -> dict[str, Tensor]:
        self.generator_optimizer.zero_grad(set_to_none=True)
        advance_spectral_norms(self.discriminator)
        # The generator's loss needs no gradients of the discriminator's weights.
        self.discriminator.requires_grad_(False)
        metrics: dict[str, Tensor] = {}
        gradients = []
        for part in parts:
            rows = self.table.gather(part.rows)
            outputs = generated or self._generate(part)
            terms = self._generator_terms(part, outputs, rows)
            loss = weighted_sum(terms, self.config.losses)
            with self.exchange.overlap(self.generator_parameters, part is parts[-1]):
                (loss * (len(part) / total)).backward()
            gradients.append(_gradient(rows))
            terms["generator"] = loss
            if outputs.output.parts is not None:
                terms["painted_share"] = 1 - outputs.output.parts.alpha.mean()
            _add(metrics, terms, len(part) / total)
        self.discriminator.requires_grad_(True)
        norm = self.exchange.sum_gradients(self.generator_parameters)
        self._update(self.generator_optimizer, norm, parts, gradients, total)
        return metrics | {"gradient_norm_generator": norm * (sum(map(len, parts)) / total)}

    def _generator_terms(
        self, batch: Batch, generated: _Generated, rows: Float[Tensor, "batch size"]
    ) -> dict[str, Tensor]:
        """Return the unweighted loss terms of E and G, by the names of LossWeights."""
        frame, landmark_image = generated.output.frame, batch.target_landmark_image
        with normalised_once(self.discriminator), self._autocast():
            with torch.no_grad():
                real = self.loss_networks(batch.target, batch.target_landmarks)
                real_features = self.discriminator(batch.target, landmark_image, rows).features
            output = self.discriminator(frame, landmark_image, rows.detach())
            terms = {
                **distances(self.loss_networks(frame, batch.target_landmarks), real),
                "adversarial": adversarial(output.score),
                "feature_matching": feature_matching(output.features, real_features),
                "embedding_match": embedding_match(generated.embedding, rows),
            }
        if self.config.losses.pixel:
            terms["pixel"] = pixel(frame, batch.target)
        return terms

    def _update(
        self,
        optimizer: torch.optim.Optimizer,
        norm: Float[Tensor, ""],
        parts: Sequence[Batch],
        row_gradients: Sequence[Tensor],
        total: int,
    ) -> None:
        rows = torch.cat([part.rows for part in parts])
        indices, gradients = self.exchange.gather_rows(rows, torch.cat([*row_gradients]), total)
        self._norm = torch.where(self._finite, norm, self._norm)
        self._finite = self._finite & torch.isfinite(norm) & torch.isfinite(gradients).all()
        optimizer.found_inf = (~self._finite).float()  # type: ignore[attr-defined]
        optimizer.step()
        self.table.apply(indices, gradients, self._finite)

    def _autocast(self) -> AbstractContextManager[Any]:
        bfloat16 = self.config.engine.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16) if bfloat16 else nullcontext()

    def learning_rates(self) -> dict[str, float]:
        """Return the present learning rates of both optimisers, by the names of the config's fields."""
        optimizers = {"": self.generator_optimizer, "_discriminator": self.discriminator_optimizer}
        return {f"learning_rate{name}": float(o.param_groups[0]["lr"]) for name, o in optimizers.items()}

    def networks(self) -> Mapping[str, nn.Module]:
        return {"embedder": self.embedder, "generator": self.generator, "discriminator": self.discriminator}

    def optimizer_state(self) -> dict[str, Any]:
        """Return what resuming needs in addition to weights: optimisers, and the number of EMA updates."""
        return {
            "generator": self.generator_optimizer.state_dict(),
            "discriminator": self.discriminator_optimizer.state_dict(),
            "ema_updates": self.generator_ema.num_updates,
        }

    def load_optimizer_state(self, state: Mapping[str, Any]) -> None:
        self.generator_optimizer.load_state_dict(_as_fused(state["generator"]))
        self.discriminator_optimizer.load_state_dict(_as_fused(state["discriminator"]))
        self.embedder_ema.num_updates = self.generator_ema.num_updates = state["ema_updates"]

    def snapshot(self) -> "Snapshot":
        """Copy all that a step changes to host memory: for a roll-back, or to write it while training goes on."""
        state = {
            "networks": {name: network.state_dict() for name, network in self.networks().items()},
            "averages": (self.embedder_ema.shadow, self.generator_ema.shadow),
            "table": self.table.state(),
            "optimizer": self.optimizer_state(),
        }
        copied = tree_map_only(Tensor, lambda tensor: tensor.detach().to("cpu", copy=True), state)
        return Snapshot(self.config, self.table.video_ids, copied)

    def restore(self, snapshot: "Snapshot") -> None:
        """Restore a snapshot's state; the snapshot itself is not changed."""
        state = snapshot.state
        for name, network in self.networks().items():
            network.load_state_dict(state["networks"][name])
        for ema, shadow in zip((self.embedder_ema, self.generator_ema), state["averages"], strict=True):
            _overwrite(ema.shadow, shadow)
        _overwrite(self.table.state(), state["table"])
        self.load_optimizer_state(copy.deepcopy(state["optimizer"]))


@dataclass(frozen=True)
class Snapshot:
    """A learner's state in host memory, for `Learner.restore` and `meta_training.checkpoint.save_bundle`."""

    config: TrainConfig
    video_ids: tuple[str, ...]
    """Of the identity rows."""
    state: Mapping[str, Any]


def _as_fused(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of an optimiser with our implementation; older checkpoints name another one."""
    groups = [{**group, "fused": True, "foreach": None} for group in state["param_groups"]]
    return {**state, "param_groups": groups}


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def _add(sums: dict[str, Tensor], terms: Mapping[str, Tensor], weight: float) -> None:
    for name, term in terms.items():
        sums[name] = sums.get(name, 0.0) + term.detach() * weight


def _overwrite(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    for name, tensor in ours.items():
        tensor.copy_(theirs[name])
