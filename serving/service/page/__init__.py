"""The files of the service's page: plain HTML, CSS and JavaScript modules, which browsers read as they are."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "data"
"""The folder that `/static` serves; its `index.html` is `/`."""
