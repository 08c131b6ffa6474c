"""Which files are motion without a film, by their names. Loads nothing, unlike the modules that read them."""

from __future__ import annotations

MOTION_FILE = ".parquet"
"""Suffix of motion files (`sfumato motion`)."""
MOTION_SUFFIXES = (MOTION_FILE, ".csv", ".json")
"""Suffixes of drivers that are no films: motion files; ARKit recordings and key frames; key frames."""


def is_motion(name: str) -> bool:
    """Whether a driver of this name holds motion alone: no picture and no sound."""
    return name.lower().endswith(MOTION_SUFFIXES)
