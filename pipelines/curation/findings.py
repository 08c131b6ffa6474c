"""What a check of a data set finds: one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Note = Callable[[str, str], None]
"""Takes a finding: file, what."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it must be: the file, relative to the data set, and what was expected and found."""

    file: str
    what: str

    def __str__(self) -> str:
        # Names in a damaged file may hold anything; a finding is one line.
        text = f"{self.file}: {self.what}"
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def reason_of(error: Exception) -> str:
    """What an error says, on one line, without the path of a local copy."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split())[:200]
