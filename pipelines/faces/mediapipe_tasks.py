"""Open MediaPipe tasks without their log output, and close them without MediaPipe's own finalizer."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pipelines.native_logs import quiet_native_logs


def open_task(owner: object, weights: Path, create: Callable[[Any, Any], Any]) -> Any:
    """Return `create(vision, base_options)`, a MediaPipe task that is closed when `owner` is garbage-collected.

    Raises:
        OSError: MediaPipe cannot start here.
    """
    with quiet_native_logs():
        try:
            with _without_plotting():
                from mediapipe.tasks import python as tasks
                from mediapipe.tasks.python import vision
        except OSError as error:  # a shared library is missing on a minimal system
            raise OSError(f"MediaPipe cannot start ({error}); `sfumato doctor` says what to install") from error
        task = create(vision, tasks.BaseOptions(model_asset_buffer=weights.read_bytes()))
    # MediaPipe's __del__ closes the task through a thread. At interpreter exit the thread is gone (errors are printed),
    # and during garbage collection of a cycle it deadlocks. So the instance's close does nothing, and the class's close
    # is called when the owner is collected, while the task is still intact.
    task.close = _do_nothing
    weakref.finalize(owner, type(task).close, task).atexit = False
    return task


def _do_nothing() -> None:
    pass


@contextmanager
def _without_plotting() -> Iterator[None]:
    """Keep MediaPipe from importing what plots and records sound: two thirds of its import's time."""
    names = [name for name in ("matplotlib", "matplotlib.pyplot", "sounddevice") if name not in sys.modules]
    placeholders = {name: ModuleType(name) for name in names}
    if "matplotlib" in placeholders:
        placeholders["matplotlib"].pyplot = placeholders["matplotlib.pyplot"]  # type: ignore[attr-defined]
    sys.modules.update(placeholders)
    try:
        yield
    finally:
        for name, placeholder in placeholders.items():
            if sys.modules.get(name) is placeholder:
                del sys.modules[name]


def mediapipe_image(image: UInt8[np.ndarray, "height width 3"]) -> Any:
    """Return the image as MediaPipe's type."""
    import mediapipe

    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
