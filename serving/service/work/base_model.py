"""The base model of new avatars; that of an alias follows the alias while the service runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from training.checkpoints.model_registry import pinned

if TYPE_CHECKING:
    from pipelines.faces.face import LandmarkDetector
    from training.checkpoints.bundle import BaseModel

log = logging.getLogger(__name__)

_LOOK_S = 60.0


class PresentModel:
    """The model that a name means: of `models:/NAME@ALIAS`, the alias is looked up again, at most once a minute.

    While the registry cannot be reached, or the new version cannot be loaded, the last model serves on.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[str], tuple[BaseModel, LandmarkDetector]],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Load the model.

        Args:
            name: path, URL, or name in the registry.
            load: returns the model of a path, URL or `models:/NAME/VERSION`, and its detector.

        Raises:
            ValueError, OSError: it cannot be loaded.
        """
        self._name, self._load, self._now = name, load, now
        self._version = pinned(name)
        self._loaded = load(self._version)
        self._looked = now()

    def __call__(self) -> tuple[BaseModel, LandmarkDetector]:
        """Return the model and its detector."""
        if self._now() >= self._looked + _LOOK_S:
            self._looked = self._now()
            try:
                version = pinned(self._name)
                if version != self._version:
                    self._loaded, self._version = self._load(version), version
                    log.warning("the base model is %s now", version)
            except (ValueError, OSError) as error:
                log.warning("the base model stays %s: %s", self._version, error)
        return self._loaded
