"""What happens when gradients are not finite: the step is skipped and counted; if it goes on, training goes back."""

import logging

from torch import Tensor

from training.checkpoints.bundle import TrainingProvenance
from training.episodes.batch import Batch
from training.meta_training.step import Learner, NotFiniteError

logger = logging.getLogger(__name__)


class NanGuard:
    """Makes a learner's steps, and holds a copy of its last checkpoint in memory to go back to.

    Workers see the same gradients, so they skip and go back alike, without a word between them.
    """

    def __init__(self, learner: Learner, origin: TrainingProvenance | None) -> None:
        self._learner = learner
        self._skipped = 0 if origin is None else origin.skipped_steps
        self._rollbacks = 0 if origin is None else origin.rollbacks
        self._skipped_in_a_row = 0
        self.keep()

    @property
    def in_trouble(self) -> bool:
        """Whether the last step was skipped: the state is not one to come back to."""
        return self._skipped_in_a_row > 0

    def keep(self) -> None:
        """This is the state to go back to."""
        self._snapshot = self._learner.snapshot()
        self._rollbacks_in_a_row = 0

    def step(self, batch: Batch) -> dict[str, Tensor] | None:
        """One step; None where it was skipped.

        Raises:
            NotFiniteError: going back has not helped `max_rollbacks` times.
        """
        config = self._learner.config
        try:
            metrics = self._learner.step(batch, config.episodes_per_step)
        except NotFiniteError as error:
            self._skipped += 1
            self._skipped_in_a_row += 1
            if self._skipped_in_a_row >= config.max_bad_steps:
                self._go_back(error)
            return None
        self._skipped_in_a_row = 0
        return metrics

    def _go_back(self, error: NotFiniteError) -> None:
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
        """Since the beginning of the run, restarts included."""
        return {"skipped_steps": float(self._skipped), "rollbacks": float(self._rollbacks)}

    def origin(self, step: int, dataset: str, digest: str) -> TrainingProvenance:
        """What a checkpoint of now has to say of itself."""
        config = self._learner.config
        before = 0 if config.start_from is None else config.start_from.images_seen
        images = before + step * config.episodes_per_step
        return TrainingProvenance(step, images, dataset, digest, self._skipped, self._rollbacks)
