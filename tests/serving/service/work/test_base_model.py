"""A service that runs follows its model's alias."""

from __future__ import annotations

from typing import Any

import pytest

from serving.service.work import base_model
from serving.service.work.base_model import PresentModel


class Registry:
    """What the alias means, and how often that was asked."""

    def __init__(self) -> None:
        self.version, self.asked, self.loaded, self.now = 1, 0, list[str](), 0.0
        self.bad: set[str] = set()

    def pin(self, name: str) -> str:
        self.asked += 1
        if self.version < 0:
            raise ValueError("the registry is away")
        return f"{name.partition('@')[0]}/{self.version}"

    def load(self, name: str) -> tuple[Any, Any]:
        if name in self.bad:
            raise ValueError(f"{name} is damaged")
        self.loaded.append(name)
        return name, "detector"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    made = Registry()
    monkeypatch.setattr(base_model, "pinned", made.pin)
    return made


def present(registry: Registry) -> PresentModel:
    return PresentModel("models:/base@champion", registry.load, lambda: registry.now)


def test_the_alias_is_followed_once_a_minute(registry: Registry) -> None:
    model = present(registry)
    registry.version = 2
    for registry.now in (1.0, 59.0):
        assert model()[0] == "models:/base/1"
    assert registry.asked == 1
    registry.now = 60.0
    assert model()[0] == "models:/base/2"
    registry.now = 120.0
    assert model()[0] == "models:/base/2"
    assert registry.loaded == ["models:/base/1", "models:/base/2"]


@pytest.mark.parametrize("fault", ["away", "damaged"])
def test_the_last_model_serves_on_while_the_new_one_cannot_be_had(registry: Registry, fault: str) -> None:
    model = present(registry)
    registry.version, registry.now = (-1 if fault == "away" else 2), 60.0
    registry.bad = {"models:/base/2"}
    assert model()[0] == "models:/base/1"
    registry.version, registry.bad, registry.now = 2, set(), 120.0
    assert model()[0] == "models:/base/2"


def test_a_model_that_cannot_be_had_at_the_start_is_told(registry: Registry) -> None:
    registry.version = -1
    with pytest.raises(ValueError, match="the registry is away"):
        present(registry)
