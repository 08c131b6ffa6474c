from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def renderers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the stub renderers, on the import path of spawned processes too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import square_renderer

    return square_renderer
