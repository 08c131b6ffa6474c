"""Handling of non-finite gradients: skip and count the step; after several in a row, roll back to a checkpoint.

A step with such gradients changes no weights, which the device decides. Python learns of it when `settle` reads the
steps' flags, at each log and checkpoint, so that no step waits for the device.
"""

import logging

import torch
from torch import Tensor

from training.checkpoints.bundle import TrainingProvenance
from training.episodes.batch import Batch
from training.meta_training.step import Learner, Outcome, Snapshot

logger = logging.getLogger(__name__)


class NotFiniteError(ArithmeticError):
    """Gradients are not finite, and going back to the last checkpoint has not helped."""


class NanGuard:
    """Makes a learner's steps, and keeps a copy of its last checkpoint in memory for rollbacks.

    Workers see the same summed gradients, so they skip and roll back alike without communication.
    """

    def __init__(self, learner: Learner, origin: TrainingProvenance | None) -> None:
        self._learner = learner
        self._skipped = 0 if origin is None else origin.skipped_steps
        self._rollbacks = 0 if origin is None else origin.rollbacks
        self._skipped_in_a_row = 0
        self._unread: list[tuple[Tensor, Tensor]] = []
        self.keep()

    @property
    def in_trouble(self) -> bool:
        """Whether the last settled step was skipped; such a state is not to be saved."""
        return self._skipped_in_a_row > 0

    def keep(self) -> Snapshot:
        """Make the present state the one to roll back to, and return it."""
        self._snapshot = self._learner.snapshot()
        self._rollbacks_in_a_row = 0
        return self._snapshot

    def step(self, batch: Batch) -> Outcome:
        """Make one step. Does not wait for the device."""
        outcome = self._learner.step(batch, self._learner.config.episodes_per_step)
        self._unread.append((outcome.finite, outcome.norm))
        return outcome

    def settle(self) -> None:
        """Wait for the steps made so far, count those that were skipped, and roll back if there are too many in a row.

        A rollback takes back the steps made since, too; they are not counted.

        Raises:
            NotFiniteError: after `max_rollbacks` rollbacks gradients are still not finite.
        """
        unread, self._unread = self._unread, []
        if not unread:
            return
        flags, norms = (torch.stack(column).tolist() for column in zip(*unread, strict=True))
        for finite, norm in zip(flags, norms, strict=True):
            if finite:
                self._skipped_in_a_row = 0
                continue
            self._skipped += 1
            self._skipped_in_a_row += 1
            if self._skipped_in_a_row >= self._learner.config.max_bad_steps:
                self._roll_back(f"gradient norm {norm}")
                return

    def _roll_back(self, problem: str) -> None:
        config = self._learner.config
        if self._rollbacks_in_a_row == config.max_rollbacks:
            raise NotFiniteError(
                f"{problem} in {config.max_bad_steps} steps in a row, and going back to the last checkpoint has not "
                f"helped {config.max_rollbacks} times"
            )
        logger.warning("%s in %d steps in a row: back to the last checkpoint", problem, config.max_bad_steps)
        self._learner.restore(self._snapshot)
        self._rollbacks += 1
        self._rollbacks_in_a_row += 1
        self._skipped_in_a_row = 0

    def counts(self) -> dict[str, float]:
        """Return totals of settled steps since the start of the run, over restarts."""
        return {"skipped_steps": float(self._skipped), "rollbacks": float(self._rollbacks)}

    def origin(self, step: int, dataset: str, digest: str) -> TrainingProvenance:
        """Return the provenance of a checkpoint written now."""
        config = self._learner.config
        before = 0 if config.start_from is None else config.start_from.images_seen
        images = before + step * config.episodes_per_step
        return TrainingProvenance(step, images, dataset, digest, self._skipped, self._rollbacks)
