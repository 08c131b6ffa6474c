"""The device that `--device` names, copies to it, and whether networks are compiled for it."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch._dynamo

from training import device
from training.device import choose_device, compiles, in_batches, missing_for_compilation, send


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


def test_batches_are_halved_where_memory_is_short_and_results_stay_in_order() -> None:
    tried: list[int] = []

    def compute(batch: slice) -> list[int]:
        tried.append(batch.stop - batch.start)
        if tried[-1] > 3:
            raise torch.OutOfMemoryError
        return [*range(10)][batch]

    assert in_batches(compute, 10, 8) == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert tried == [8, 4, 2, 2, 2, 2, 2]
    with pytest.raises(torch.OutOfMemoryError):
        in_batches(lambda batch: compute(slice(0, 9)), 2, 2)
    assert in_batches(compute, 0, 8) == []


def test_networks_are_compiled_where_it_is_asked_or_a_gpu_has_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch._dynamo.config, "suppress_errors", False)  # to be put back
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    for wanted, name, missing, expected in (
        (True, cpu, "", True),
        (False, cuda, "", False),
        (None, cpu, "", False),
        (None, cuda, "", True),
        (None, cuda, "package triton", False),
    ):
        compiles.cache_clear()
        monkeypatch.setattr(device, "missing_for_compilation", lambda missing=missing: missing)
        assert compiles(wanted, name) is expected
    compiles.cache_clear()
    assert caplog.messages == ["networks are not compiled: there is no package triton"]


def test_a_compiler_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert missing_for_compilation() == "C compiler (cc, gcc or clang)"
    (tmp_path / "clang").write_text("")
    (tmp_path / "clang").chmod(0o755)
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    assert missing_for_compilation() == "package triton"


def test_values_are_sent_to_a_device() -> None:
    array = np.arange(3, dtype=np.float32)
    assert send(array, torch.device("cpu")).data_ptr() == array.ctypes.data  # no copy
    assert send(torch.from_numpy(array), torch.device("meta")).shape == (3,)
