"""Checks of uploaded files: is it a picture, a video, a file of motion that can be used?"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.media.decoder.process import Decoder, DecoderDied, Limits
from pipelines.media.images import PICTURE_SUFFIXES
from serving.service.errors import BadInput, public_reason
from training.animation.motion.formats import is_film, is_motion, is_speech

_CHECK = Limits(stall_s=20.0, clip_s=30.0)
_SHARED_S = 1.0  # longer than most files take


def picture_suffix(client_name: str | None) -> str:
    """Return the suffix of a client's file name if it is a known picture suffix, else "". The rest is discarded."""
    ending = Path(client_name or "").suffix.lower()
    return ending if ending in PICTURE_SUFFIXES else ""


def driver_suffix(client_name: str | None) -> str:
    """Return the suffix of a client's file name if it is that of a file of motion or speech, else ".mp4"."""
    ending = Path(client_name or "").suffix.lower()
    return ".mp4" if is_film(ending) else ending


def check_picture(path: Path, what: str) -> None:
    """Raise BadInput, naming `what` and the reason, unless the file is a readable picture.

    It is decoded in a process of its own, which a malicious file may crash.
    """
    with _decoder() as decoder:
        _checked(path, what, lambda: decoder.picture(path))


def check_driver(path: Path, what: str) -> None:
    """Raise BadInput, naming `what` and the reason, unless the file is a video, or a file of motion that can be read.

    A video's header and first frame are read in a process of its own, which a malicious file may crash. Speech is heard
    by the job alone.
    """
    if is_speech(path.name):
        return
    if is_motion(path.name):
        from training.animation.motion.drivers import read_motion

        _checked(path, what, lambda: read_motion(path, "mediapipe"))
        return
    with _decoder() as decoder:
        _checked(path, what, lambda: decoder.probe(path))


_shared_decoder = Decoder(_CHECK)
_shared_decoder_lock = threading.Lock()


@contextmanager
def _decoder() -> Iterator[Decoder]:
    """Yield the warm decoder, or, while it is busy for long (perhaps with a file that hangs it), one of the caller's
    own, which takes most of a second to start."""
    if not _shared_decoder_lock.acquire(timeout=_SHARED_S):
        with Decoder(_CHECK) as own:
            yield own
        return
    try:
        yield _shared_decoder
    finally:
        _shared_decoder_lock.release()


def _checked(path: Path, what: str, read: Callable[[], object]) -> None:
    try:
        read()
    except DecoderDied as error:
        raise BadInput(f"{what}: {error}") from error
    except ValueError as error:
        reason = public_reason(error, {str(path): what})
        raise BadInput(reason if what in reason else f"{what}: {reason}") from error
