"""The base model that comes with Sfumato; its card lies beside it. `make base-model` makes it anew."""

from pathlib import Path

SHIPPED = str(Path(__file__).parent / "data" / "base_model")
"""Its folder."""
