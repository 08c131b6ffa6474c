"""The bundled base model. Its folder holds a model card; `make base-model` trains it again."""

from pathlib import Path

SHIPPED = str(Path(__file__).parent / "data" / "base_model")
"""Folder of the bundled base model."""


def named_or_shipped(model: str | None) -> str:
    """Return the bundled model's folder for None, `shipped` or `bundled`, else `model`; an empty string is passed
    through."""
    return SHIPPED if model in (None, "shipped", "bundled") else str(model)
