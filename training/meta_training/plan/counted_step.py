"""Count what a step computes, keeps and sends, on tensors without data ("meta"): seconds for any size of network."""

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from training.config import TrainConfig
from training.episodes.batch import Batch
from training.losses.face_identity import load_recogniser
from training.losses.loss_networks import LossNetworks
from training.losses.perceptual import PerceptualNetwork
from training.meta_training.collectives import SingleProcess
from training.meta_training.plan.device_flops import Kernels, count_flops
from training.meta_training.step import Learner
from training.models.identity_rows import IdentityRows
from training.warp.apply import warp_with_field
from training.warp.field import WarpField
from training.warp.openings import Opening

_NO_DATA = torch.device("meta")
_SPLINE = 48  # points of a warp field across the crop
_ROWS = 8


@dataclass(frozen=True)
class StepCounts:
    """A step of one worker, per episode where it depends on their number."""

    parameters: Mapping[str, int]
    """Numbers of E's, G's and D's parameters."""
    buffer_bytes: Mapping[str, int]
    """Bytes of their buffers: the vectors of spectral norms."""
    loss_network_bytes: int
    flops: int
    """Floating-point operations per episode, of convolutions and matrix products; a multiply-add counts as two."""
    activation_bytes: int
    """Most bytes per episode, in float32, that are kept for backward passes at a time."""
    launches: int
    """Operations of a forward pass over all phases, each at least one kernel on a GPU. Views are not counted."""
    gradient_bytes: int
    """Bytes of gradients that a worker gives to the others in all phases of a step, in float32."""
    row_bytes: int
    """The same per episode, of identity rows with their indices."""


def count_step(config: TrainConfig) -> StepCounts:
    """Count one step of a run.

    The landmark-dependent parts of the warp (eyes, mouth) are left out: they have no convolutions.

    Raises:
        AssetError, OSError: the face recogniser's weights are not available; only with a loss of identity.
    """
    # Two episodes in two parts cost what parts of any size cost: E and G draw each part once more.
    num_episodes = 1 if config.engine.micro_batch is None else 2
    engine = replace(config.engine, channels_last=False, compile=False, micro_batch=1)
    config = replace(config, engine=engine)
    recogniser = load_recogniser() if config.losses.identity else None
    exchange, memory = _CountingExchange(), _SavedTensors()
    kernels = Kernels()  # type: ignore[no-untyped-call] # torch's
    with torch.random.fork_rng(devices=[]):
        # Initialised with data, which takes a tenth of the time that power iterations without data take.
        table = IdentityRows(list(map(str, range(_ROWS))), config.model.embedding_size, learning_rate=0.1)
        losses = LossNetworks(config.losses, PerceptualNetwork(config.perceptual), recogniser)
        learner = CountedLearner(config, table, losses, exchange, _NO_DATA)
    with torch.device(_NO_DATA):
        batch = random_batch(config, num_episodes)
        memory.ignore(learner)

        def step() -> None:
            with kernels, memory.watched():
                learner.step(batch)

        flops = count_flops(step)
    networks = learner.networks()
    return StepCounts(
        {name: sum(each.numel() for each in network.parameters()) for name, network in networks.items()},
        {name: num_bytes(network.buffers()) for name, network in networks.items()},
        num_bytes([*losses.parameters(), *losses.buffers()]),
        flops // num_episodes,
        memory.most,
        kernels.number // num_episodes,
        exchange.gradients,
        exchange.rows // num_episodes,
    )


def num_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of some tensors."""
    return sum(each.numel() * each.element_size() for each in tensors)


class CountedLearner(Learner):
    """A learner without data: its step makes all passes and exchanges, and updates no weights."""

    def _prepare(self, network: Any) -> Any:
        return network.eval().to(_NO_DATA)

    def _adam(self, parameters: Any, learning_rate: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, learning_rate)

    def _autocast(self) -> Any:
        return contextlib.nullcontext()

    def _update(
        self,
        optimizer: torch.optim.Optimizer,
        norm: Float[Tensor, ""],
        parts: Sequence[Batch],
        row_gradients: Sequence[Tensor],
        total: int,
    ) -> None:
        del optimizer
        self._norm = norm
        self.exchange.gather_rows(torch.cat([part.rows for part in parts]), torch.cat([*row_gradients]), total)


def random_batch(config: TrainConfig, num_episodes: int) -> Batch:
    """Return a batch of noise in the shapes of a run, on the default device; shots are warped to where they are."""
    model, size = config.model, config.model.image_size
    warped = None
    if model.warp_prior:
        same = torch.zeros(num_episodes, 68, 2)
        field = _WithoutOpenings(torch.zeros(num_episodes, _SPLINE, _SPLINE, 2), same, same)
        fine = torch.rand(num_episodes, 7, model.frame_size, model.frame_size)
        warped = warp_with_field(fine, torch.rand(num_episodes, 3, size, size), field)
    shape = (num_episodes, config.num_shots, 3, size, size)
    return Batch(
        torch.arange(num_episodes),
        torch.rand(shape),
        torch.rand(shape),
        torch.rand(num_episodes, 3, size, size),
        torch.rand(num_episodes, 3, size, size),
        2 * torch.rand(num_episodes, 68, 2) - 1,
        warped,
    )


class _WithoutOpenings(WarpField):
    """A field without eyes and mouth: which pixels they are depends on data."""

    @cached_property
    def _openings(self) -> list[Opening]:
        return []

    def __getitem__(self, index: Tensor | slice) -> WarpField:
        return _WithoutOpenings(self.spline[index], self.source[index], self.target[index])


class _CountingExchange(SingleProcess):
    """Counts the bytes that a worker gives to the others."""

    def __init__(self) -> None:
        self.gradients = self.rows = 0

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> Float[Tensor, ""]:
        self.gradients += num_bytes(each.grad for each in parameters if each.grad is not None)
        return torch.zeros(())

    def gather_rows(
        self, indices: Int[Tensor, "batch"], gradients: Float[Tensor, "batch size"], num_episodes: int
    ) -> tuple[Int[Tensor, "world_batch"], Float[Tensor, "world_batch size"]]:
        del num_episodes
        self.rows += num_bytes([indices, gradients])
        return indices, gradients


class _SavedTensors:
    """The bytes of tensors that autograd keeps for backward passes, and the most of them at a time."""

    def __init__(self) -> None:
        self.most = self._now = 0
        self._ignored: set[int] = set()
        self._owners: Counter[int] = Counter()

    def ignore(self, learner: Learner) -> None:
        """Leave out weights, which are there anyway."""
        for network in (*learner.networks().values(), learner.loss_networks):
            self._ignored |= {_storage(each) for each in (*network.parameters(), *network.buffers())}

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Count within the block."""
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: _Saved(self, tensor), lambda saved: saved.tensor):
            yield

    def change(self, tensor: Tensor, by: int) -> None:
        """Note one owner more or less of a tensor's memory."""
        storage = _storage(tensor)
        if storage in self._ignored:
            return
        before = self._owners[storage]
        self._owners[storage] += by
        if before == 0 or self._owners[storage] == 0:
            self._now += by * tensor.untyped_storage().nbytes()
            self.most = max(self.most, self._now)


class _Saved:
    """A tensor in an autograd graph."""

    def __init__(self, counts: _SavedTensors, tensor: Tensor) -> None:
        self.counts, self.tensor = counts, tensor
        counts.change(tensor, 1)

    def __del__(self) -> None:
        self.counts.change(self.tensor, -1)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
