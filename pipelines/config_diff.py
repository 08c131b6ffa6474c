"""Describe the differences between two configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def differences(earlier: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return a line such as `clip.size 256 -> 128` for each value that differs; section names are joined by dots."""
    lines: list[str] = []
    for key in sorted({*earlier, *now}):
        a, b = earlier.get(key), now.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key} {a} -> {b}")
    return lines
