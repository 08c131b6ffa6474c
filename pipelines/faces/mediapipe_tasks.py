"""How a task of MediaPipe's is opened and closed: quietly, and without its own way of closing."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pipelines.native_logs import quiet_native_logs


def open_task(owner: object, weights: Path, create: Callable[[Any, Any], Any]) -> Any:
    """What `create` makes of MediaPipe's `vision` module and the options' base; it is closed when `owner` goes.

    Raises:
        OSError: MediaPipe cannot start here.
    """
    with quiet_native_logs():
        try:
            from mediapipe.tasks import python as tasks
            from mediapipe.tasks.python import vision
        except OSError as error:  # a shared library is missing on a bare system
            raise OSError(f"MediaPipe cannot start ({error}); `sfumato doctor` says what to install") from error
        task = create(vision, tasks.BaseOptions(model_asset_buffer=weights.read_bytes()))
    # MediaPipe's __del__ closes through a thread that is gone when the interpreter ends (it complains) or when a cycle
    # is collected (it waits for ever). So __del__ finds a close that does nothing, and the real one is called when the
    # owner goes, while the task itself is still whole.
    task.close = _do_nothing
    weakref.finalize(owner, type(task).close, task).atexit = False
    return task


def _do_nothing() -> None:
    pass


def mediapipe_image(image: UInt8[np.ndarray, "height width 3"]) -> Any:
    """The picture as MediaPipe takes it."""
    import mediapipe

    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
