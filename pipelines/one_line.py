"""Text on one line, for error messages, table rows and log lines."""

from __future__ import annotations


def one_line(text: object, max_chars: int | None = None) -> str:
    """Return `str(text)` with every run of white space replaced by one space, cut to `max_chars` characters."""
    return " ".join(str(text).split())[:max_chars]
