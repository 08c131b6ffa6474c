"""What a driver holds, by its name: a film, motion without a film, or speech. Loads nothing, unlike what reads them."""

from __future__ import annotations

MOTION_FILE = ".parquet"
"""Suffix of motion files (`sfumato motion`)."""
MOTION_SUFFIXES = (MOTION_FILE, ".csv", ".json")
"""Suffixes of drivers that are no films: motion files; ARKit recordings and key frames; key frames."""
SPEECH_SUFFIXES = (".wav", ".mp3", ".m4a", ".flac", ".ogg")
"""Suffixes of drivers that are speech: sound without pictures."""


def is_motion(name: str) -> bool:
    """Whether a driver of this name holds motion alone: no picture and no sound."""
    return name.lower().endswith(MOTION_SUFFIXES)


def is_speech(name: str) -> bool:
    """Whether a driver of this name is speech."""
    return name.lower().endswith(SPEECH_SUFFIXES)


def is_film(name: str) -> bool:
    """Whether a driver of this name has pictures."""
    return not is_motion(name) and not is_speech(name)
