"""The device that `--device` names."""

import pytest
import torch

from training.device import choose_device


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_auto_takes_a_card_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")


@pytest.mark.usefixtures("two_cards")
@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:0", "cuda:1"])
def test_a_device_that_is_there_is_taken(name: str) -> None:
    assert choose_device(name) == torch.device(name)


@pytest.mark.usefixtures("two_cards")
def test_a_card_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="--device cuda:2: there is no such CUDA device here"):
        choose_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "", "meta"])
def test_other_words_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="--device takes auto, cpu, cuda or cuda:N, not"):
        choose_device(name)
