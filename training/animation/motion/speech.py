"""Speech as a driver: the phones of a sound file move the lips, and the eyes blink now and then.

PocketSphinx (BSD) recognises phones without a dictionary, with the acoustic model of American English and the phone
language model that its package carries: nothing is fetched, and no words are found. docs/experiments.md has figures.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Generator
from contextlib import closing
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float64

from pipelines.media.ffmpeg_process import ffmpeg_executable
from pipelines.media.frame_times import FrameTimes
from pipelines.media.sound import Sound, find_sound
from pipelines.synthetic.head.arkit_actions import ACTIONS, action_index
from training.animation.motion.face_motion import FaceMotion
from training.animation.motion.visemes import phone_actions

FPS = Fraction(25)
"""Rate of the motion, and of a video of a picture that it drives."""
_RATE, _STEPS_PER_S = 16_000, 100  # of the acoustic model: samples, and steps of phones
_CHUNK_S = 20  # of sound that is recognised at once: memory grows with it
_SETTINGS = {"lw": 2.0, "pip": 0.3, "beam": 1e-20, "pbeam": 1e-20}  # of PocketSphinx's example for phones
_COARTICULATION_S = 0.04  # standard deviation over which phones pass into one another
_BLINK_S, _SHUT = 0.24, 0.85
_BLINK_GAPS_S = 2.0, 6.0


def read_speech(path: Path, on_step: Callable[[int, int], None] | None = None) -> tuple[FaceMotion, FrameTimes]:
    """Return the motion of a face that says what a sound file says; it has no noise and rests at 0.

    The blinks are the same for every file of a length.

    Args:
        on_step: called with (seconds done, seconds done + 1).

    Raises:
        ValueError: the package is missing, or the file has no sound that can be decoded; the message names the file.
    """
    if find_spec("pocketsphinx") is None:
        raise ValueError(f"{path}: speech as a driver needs a package that is not here: pip install '.[speech]'")
    try:
        sound, note = find_sound(path, Fraction(0))
    except ValueError as error:
        raise ValueError(f"{path} is no sound file that can be read") from error
    if sound is None:
        raise ValueError(f"{path} holds no sound" + (" that can be decoded" if note else ""))
    decoder, parts, done = _decoder(), [], 0
    with closing(_samples(sound)) as chunks:
        for chunk in chunks:
            parts.append(_actions(decoder, chunk))
            done += _CHUNK_S
            if on_step is not None:
                on_step(done, done + 1)
    if not parts:
        raise ValueError(f"{path} holds no sound")
    spread = _COARTICULATION_S * _STEPS_PER_S
    reach = (1, 8 * round(spread) + 1)
    curves = cv2.GaussianBlur(np.concatenate(parts), reach, sigmaX=1, sigmaY=spread, borderType=cv2.BORDER_REPLICATE)
    frames = max(round(len(curves) / _STEPS_PER_S * FPS), 1)
    times = FrameTimes(np.arange(frames) / float(FPS), FPS, constant=True)
    at = np.minimum(np.round(times.seconds * _STEPS_PER_S).astype(int), len(curves) - 1)
    actions = np.asarray(curves[at], np.float64)
    actions[:, [action_index(f"eyeBlink{side}") for side in ("Left", "Right")]] = _blinks(times.seconds)[:, None]
    return FaceMotion(actions, np.zeros((frames, 3))), times


def _decoder() -> Any:
    from pocketsphinx import Decoder, get_model_path

    model = Path(get_model_path()) / "en-us"
    phones = str(model / "en-us-phone.lm.bin")
    return Decoder(hmm=str(model / "en-us"), allphone=phones, loglevel="FATAL", samprate=float(_RATE), **_SETTINGS)


def _actions(decoder: Any, chunk: bytes) -> np.ndarray:
    """Return the actions of a piece of sound, a row for every hundredth of a second."""
    rows = np.zeros((max(len(chunk) // 2 * _STEPS_PER_S // _RATE, 1), len(ACTIONS)), np.float32)
    decoder.start_utt()
    decoder.process_raw(chunk, full_utt=True)
    decoder.end_utt()
    if decoder.hyp() is not None:
        for phone in decoder.seg():
            rows[phone.start_frame : phone.end_frame + 1] = phone_actions(phone.word)
    return rows


def _samples(sound: Sound) -> Generator[bytes, None, None]:
    """Yield 16-bit mono samples in pieces of `_CHUNK_S`, with silence before a sound that begins late."""
    begin = ["-i", f"file:{sound.path.absolute()}", "-map", f"0:{sound.index}", "-af", "aresample=async=1:first_pts=0"]
    output = ["-ac", "1", "-ar", str(_RATE), "-f", "s16le", "pipe:1"]
    command = [ffmpeg_executable(), "-hide_banner", "-loglevel", "quiet", "-nostdin", *begin, *output]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            while len(chunk := process.stdout.read(2 * _RATE * _CHUNK_S)) >= 2:
                yield chunk
        finally:
            process.kill()


def _blinks(seconds: Float64[np.ndarray, " frames"]) -> Float64[np.ndarray, " frames"]:
    random, shut, at = np.random.default_rng(0), np.zeros(len(seconds)), 0.0
    while (at := at + random.uniform(*_BLINK_GAPS_S)) < seconds[-1] - _BLINK_S:
        phase = (seconds - at) / _BLINK_S
        shut = np.maximum(shut, np.where((phase > 0) & (phase < 1), np.sin(np.pi * np.clip(phase, 0, 1)), 0))
    return _SHUT * shut
