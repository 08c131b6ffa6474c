import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from training.losses.perceptual_weights import pick_layer, read_numpy_pickle, read_state_dict


class _Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_a_pickle_that_runs_a_command_is_refused_before_it_runs(tmp_path: Path) -> None:
    made = tmp_path / "made"
    with pytest.raises(ValueError, match=r"refusing to unpickle \w+\.system"):
        read_numpy_pickle(pickle.dumps({"a": _Payload(made)}))
    assert not made.exists()


@pytest.mark.parametrize("value", [{"a": Path("x")}, {"a": len}, {"a": np.random.default_rng}, {"a": 1j}])
def test_anything_but_arrays_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="only numpy arrays are allowed"):
        read_numpy_pickle(pickle.dumps(value))


def test_objects_hidden_in_an_array_are_refused() -> None:
    with pytest.raises(ValueError, match="refusing to unpickle"):
        read_numpy_pickle(pickle.dumps({"a": np.array([Path("x")], dtype=object)}))


def test_nested_dicts_of_arrays_are_read() -> None:
    tree = {"net": {"Conv_0": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.ones(3)}}}
    read = read_numpy_pickle(pickle.dumps(tree, protocol=4))
    assert np.array_equal(read["net"]["Conv_0"]["kernel"], tree["net"]["Conv_0"]["kernel"])
    assert np.array_equal(read["net"]["Conv_0"]["bias"], np.ones(3))


def test_a_pickle_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a dict of arrays, found list"):
        read_numpy_pickle(pickle.dumps([1, 2]))


LAYER = {"conv1_1.weight": torch.arange(54.0).reshape(2, 3, 3, 3), "conv1_1.bias": torch.tensor([1.0, 2.0])}
NAMES = ("features.0", "conv1_1")
SHAPE = (2, 3, 3, 3)


def _written(state: object, file: Path) -> Path:
    if file.suffix == ".safetensors":
        save_file(state, file)  # type: ignore[arg-type]
    else:
        torch.save(state, file, _use_new_zipfile_serialization=file.suffix != ".old")
    return file


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth", "net.old", "misnamed.png"])
def test_a_file_is_known_by_what_it_holds(name: str, tmp_path: Path) -> None:
    state = read_state_dict(_written(LAYER, tmp_path / name), "net")
    weight, bias = pick_layer(state, NAMES, SHAPE, "VGG19", "net")
    assert torch.equal(weight, LAYER["conv1_1.weight"])
    assert torch.equal(bias, LAYER["conv1_1.bias"])


def test_a_state_dict_may_be_wrapped_and_in_half_precision(tmp_path: Path) -> None:
    wrapped = {"epoch": 3, "state_dict": {key.replace("conv1_1", "features.0"): t.half() for key, t in LAYER.items()}}
    weight, _ = pick_layer(read_state_dict(_written(wrapped, tmp_path / "a.pth"), "a"), NAMES, SHAPE, "VGG19", "a")
    assert torch.equal(weight.float(), LAYER["conv1_1.weight"])


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth", "net.old"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.95])
def test_a_truncated_file_is_one_line_with_its_name(name: str, kept: float, tmp_path: Path) -> None:
    file = _written(LAYER, tmp_path / name)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * kept)])
    with pytest.raises(ValueError, match=r"^https://host/net ") as refused:
        read_state_dict(file, "https://host/net")
    assert "\n" not in str(refused.value)


def test_a_header_of_eight_exabytes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"
    file.write_bytes((2**63 - 1).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match="is no safetensors file, or was cut short"):
        read_state_dict(file, "net")


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_state_dict_is_refused_before_it_runs(zipped: bool, tmp_path: Path) -> None:
    made = tmp_path / "made"
    file = tmp_path / "net.pth"
    torch.save({**LAYER, "extra": _Payload(made)}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        ValueError, match=r"net\.pth is no file of weights, is damaged, or holds more than tensors"
    ) as no:
        read_state_dict(file, "net.pth")
    assert "\n" not in str(no.value)
    assert not made.exists()
    file.write_bytes(pickle.dumps(_Payload(made)))
    with pytest.raises(ValueError, match="holds more than tensors"):
        read_state_dict(file, "net.pth")
    assert not made.exists()


def test_what_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^net holds no state dict: list$"):
        read_state_dict(_written([torch.ones(1)], tmp_path / "net.pth"), "net")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv1_1.weight": None}, r"net is no VGG19: it holds no features\.0\.weight or conv1_1\.weight"),
        ({"conv1_1.bias": None}, r"net is no VGG19: it holds no conv1_1\.bias"),
        ({"conv1_1.bias": torch.ones(3)}, r"net is no VGG19: conv1_1\.bias has shape \(3,\), expected \(2,\)"),
        ({"conv1_1.weight": torch.ones(2, 3, 5, 5)}, r"has shape \(2, 3, 5, 5\), expected \(2, 3, 3, 3\)"),
        ({"conv1_1.bias": torch.ones(2, dtype=torch.int64)}, r"conv1_1\.bias is no dense tensor of real numbers"),
        ({"conv1_1.bias": "two"}, r"conv1_1\.bias is no dense tensor of real numbers"),
        ({"conv1_1.bias": torch.tensor([1.0, torch.nan])}, r"net: conv1_1\.bias holds numbers that are not finite"),
    ],
)
def test_a_layer_that_does_not_fit_is_named(change: dict[str, object], message: str) -> None:
    state = {key: value for key, value in {**LAYER, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        pick_layer(state, NAMES, SHAPE, "VGG19", "net")
