"""Find ffmpeg's program, and run it."""

from __future__ import annotations

import shutil
from typing import Any

import ffmpeg


def ffmpeg_executable() -> str:
    """Return the ffmpeg on PATH, else the one bundled with imageio-ffmpeg."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def compile_command(output: Any) -> list[str]:
    """Return the command line of ffmpeg-python's `output`: it overwrites files and prints errors only."""
    command = ffmpeg.compile(output, cmd=ffmpeg_executable(), overwrite_output=True)
    return [*command[:1], "-hide_banner", "-loglevel", "error", "-nostdin", *command[1:]]


def last_line(output: bytes) -> str:
    """Return the last non-empty line of a program's output."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it gave no reason"
