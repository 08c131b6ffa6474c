from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def cameras(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the tests' cameras, on the path of processes that are spawned too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import moving_square

    return moving_square
