"""Text on one line, without credentials, for error messages, names, records and log lines."""

from __future__ import annotations

import re

_PASSWORD = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)[^\s/?#\"'<>]+@", re.IGNORECASE)
# The punctuation of a sentence that follows a URL is none of it.
_QUERY = re.compile(r"(?P<url>\bhttps?://[^\s?#\"'<>]+)[?#][^\s\"'<>]*?(?=[,.:;)\]]*(?:[\s\"'<>]|$))", re.IGNORECASE)


def one_line(text: object, max_chars: int | None = None) -> str:
    """Return `str(text)` with every run of white space replaced by one space, cut to `max_chars` characters.

    URLs in it lose what may be a secret; see `hide_credentials`.
    """
    return " ".join(hide_credentials(str(text)).split())[:max_chars]


def hide_credentials(text: str) -> str:
    """Return `text`, a URL or text with URLs in it, without what may be a secret of theirs.

    That is user name and password of every URL, and query and fragment of http(s) URLs: signed URLs of object stores
    carry their signature in the query.
    """
    return _QUERY.sub(r"\g<url>", _PASSWORD.sub(r"\g<scheme>", text))
