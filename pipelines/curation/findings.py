"""The findings of a data set's validation, one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipelines.one_line import one_line

_MAX_REASON_CHARS = 200

Note = Callable[[str, str], None]
"""Records a finding: (file, description)."""


@dataclass(frozen=True)
class Finding:
    """A fault of a data set: the file, relative to the data set, and what was expected and found."""

    file: str
    what: str

    def __str__(self) -> str:
        # Names in a damaged file may contain control characters.
        text = f"{self.file}: {self.what}"
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def reason_of(error: Exception) -> str:
    """Return an error's message on one line, without the path of a local copy."""
    return one_line(getattr(error, "strerror", None) or error, _MAX_REASON_CHARS)
