"""Handling of non-finite gradients: skip and count the step; after several in a row, roll back to a checkpoint."""

import logging

from torch import Tensor

from training.checkpoints.bundle import TrainingProvenance
from training.episodes.batch import Batch
from training.meta_training.step import Learner, NotFiniteError, Snapshot

logger = logging.getLogger(__name__)


class NanGuard:
    """Makes a learner's steps, and keeps a copy of its last checkpoint in memory for rollbacks.

    Workers see the same summed gradients, so they skip and roll back alike without communication.
    """

    def __init__(self, learner: Learner, origin: TrainingProvenance | None) -> None:
        self._learner = learner
        self._skipped = 0 if origin is None else origin.skipped_steps
        self._rollbacks = 0 if origin is None else origin.rollbacks
        self._skipped_in_a_row = 0
        self.keep()

    @property
    def in_trouble(self) -> bool:
        """Whether the last step was skipped; such a state is not to be saved."""
        return self._skipped_in_a_row > 0

    def keep(self) -> Snapshot:
        """Make the present state the one to roll back to, and return it."""
        self._snapshot = self._learner.snapshot()
        self._rollbacks_in_a_row = 0
        return self._snapshot

    def step(self, batch: Batch) -> dict[str, Tensor] | None:
        """Make one step and return its metrics, or None if it was skipped.

        Raises:
            NotFiniteError: after `max_rollbacks` rollbacks gradients are still not finite.
        """
        config = self._learner.config
        try:
            metrics = self._learner.step(batch, config.episodes_per_step)
        except NotFiniteError as error:
            self._skipped += 1
            self._skipped_in_a_row += 1
            if self._skipped_in_a_row >= config.max_bad_steps:
                self._roll_back(error)
            return None
        self._skipped_in_a_row = 0
        return metrics

    def _roll_back(self, error: NotFiniteError) -> None:
        config = self._learner.config
        if self._rollbacks_in_a_row == config.max_rollbacks:
            raise NotFiniteError(
                f"{error} in {config.max_bad_steps} steps in a row, and going back to the last checkpoint has not "
                f"helped {config.max_rollbacks} times"
            ) from error
        logger.warning("%s in %d steps in a row: back to the last checkpoint", error, config.max_bad_steps)
        self._learner.restore(self._snapshot)
        self._rollbacks += 1
        self._rollbacks_in_a_row += 1
        self._skipped_in_a_row = 0

    def counts(self) -> dict[str, float]:
        """Return totals since the start of the run, over restarts."""
        return {"skipped_steps": float(self._skipped), "rollbacks": float(self._rollbacks)}

    def origin(self, step: int, dataset: str, digest: str) -> TrainingProvenance:
        """Return the provenance of a checkpoint written now."""
        config = self._learner.config
        before = 0 if config.start_from is None else config.start_from.images_seen
        images = before + step * config.episodes_per_step
        return TrainingProvenance(step, images, dataset, digest, self._skipped, self._rollbacks)
