"""The base model that comes with Sfumato; its card lies beside it. `make base-model` makes it anew."""

from pathlib import Path

SHIPPED = str(Path(__file__).parent / "data" / "base_model")
"""Its folder."""


def named_or_shipped(model: str | None) -> str:
    """What a command takes that was given no model or `shipped`; an empty name is a mistake of the caller, not none."""
    return SHIPPED if model is None or model == "shipped" else model
