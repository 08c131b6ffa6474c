"""A device of its own for tests on machines without one: the name is `meta`, the numbers lie in the CPU's memory.

Within `other_device()`, tensors on `torch.device("meta")` have values, and an operation on tensors of this device and
of the CPU raises, as it would between CUDA and the CPU. `watched_device()` also finds where code would wait for a GPU:
on CUDA the host waits for everything launched before when it reads a tensor (`bool`, `float`, `tolist`, `.cpu()`), when
the shape of a result depends on values (`nonzero`, `unique`, boolean masks), when an operation checks its result, and
when it copies from memory that is not pinned. `torch.cuda.set_sync_debug_mode` names the same places on a GPU.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

OTHER = torch.device("meta")
# Between devices by nature, or with indices that may lie on the CPU.
_BETWEEN = ("_to_copy", "copy_", "index", "index_put_", "_index_put_impl_")
# torch marks these views with a bit that the outer tensor lacks.
_EAGER = {"_conj": torch.ops.aten.conj_physical.default, "_neg_view": torch.ops.aten.neg.default}


class OtherTensor(torch.Tensor):
    """A tensor on the other device; `values` holds its numbers."""

    values: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> OtherTensor:
        tensor: OtherTensor = torch.Tensor._make_wrapper_subclass(
            cls, values.shape, strides=values.stride(), storage_offset=values.storage_offset(), dtype=values.dtype,
            device=OTHER,
        )  # fmt: skip
        tensor.values = values
        return tensor

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"OtherTensor({self.values})"

    def tolist(self) -> Any:
        """Return the numbers; torch refuses this for subclasses."""
        return self.values.tolist()

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, dict(kwargs or {}))


class _TensorsOfLists(TorchFunctionMode):
    """Makes tensors of lists, as data and as indices, on the CPU first: torch makes them without dispatching."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.tensor and (device := kwargs.pop("device", None)) is not None:
            return torch.tensor(*args, **kwargs).to(device)
        if func is torch.Tensor.new_tensor:
            like, data = args
            return torch.tensor(data, dtype=like.dtype).to(like.device)
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            tensor, index, *value = args
            parts = index if isinstance(index, tuple) else (index,)
            lists = tuple(torch.tensor(part) if isinstance(part, list) else part for part in parts)
            return func(tensor, lists, *value)
        return func(*args, **kwargs)


class _OtherDevice(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, dict(kwargs or {}))


def _run(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    name = func.overloadpacket.__name__  # type: ignore[attr-defined]
    tensors = [leaf for leaf in leaves((*args, *kwargs.values())) if isinstance(leaf, torch.Tensor)]
    others = [tensor for tensor in tensors if isinstance(tensor, OtherTensor)]
    on_cpu = [tensor for tensor in tensors if not isinstance(tensor, OtherTensor) and tensor.dim()]
    if others and on_cpu and name not in _BETWEEN:
        raise RuntimeError(f"{name}: tensors on the CPU and on another device")
    device = kwargs.get("device")
    if device is not None:
        kwargs["device"] = torch.device("cpu")
    if others:
        func = _EAGER.get(name, func)
    plain_args, plain_kwargs = _each(_values, args), {name: _each(_values, value) for name, value in kwargs.items()}
    result = func(*plain_args, **plain_kwargs)
    if name.endswith("_"):
        return args[0] if func._schema.returns else None  # type: ignore[attr-defined] # in place
    is_other = device == OTHER if device is not None else bool(others)
    return _each(_other, result) if is_other else result


def leaves(arguments: Iterable[Any]) -> Iterator[Any]:
    """Yield the arguments of an operation and, of its lists of tensors, the tensors; torch's own trees are slow."""
    for argument in arguments:
        if isinstance(argument, (list, tuple)):
            yield from leaves(argument)
        else:
            yield argument


def _each(function: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        mapped = [_each(function, each) for each in value]
        return mapped if isinstance(value, list) else tuple(mapped)
    return function(value)


def _other(leaf: object) -> object:
    return OtherTensor(leaf) if isinstance(leaf, torch.Tensor) else leaf


def _values(leaf: object) -> object:
    return leaf.values if isinstance(leaf, OtherTensor) else leaf


@contextmanager
def other_device() -> Iterator[torch.device]:
    """Give `torch.device("meta")` values."""
    with _OtherDevice(), _TensorsOfLists():
        yield OTHER


_BY_VALUES = {
    "_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "unique_dim",
    "unique_consecutive", "_linalg_check_errors",
}  # fmt: skip
_CONSTANTS = {"_index", "_on_device", "_load"}
"""Functions that copy constants to a device once and keep them."""
_INDEXING = {"index", "index_put_", "_index_put_impl_", "index_put"}


class Waits(TorchDispatchMode):
    """Records where the host would wait, and counts the operations that launch a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.launches = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = func.overloadpacket.__name__
        if (
            any(isinstance(leaf, OtherTensor) for leaf in leaves((*args, *kwargs.values())))
            or kwargs.get("device") == OTHER
        ):
            self.launches += not func.is_view
            if self._waits(name, args, kwargs):
                self.note(name)
        return func(*args, **kwargs)

    def note(self, name: str) -> None:
        """Record the place in our code that leads here, unless it copies constants."""
        stack = traceback.extract_stack()
        if any(each.name in _CONSTANTS for each in stack):
            return
        frames = [each for each in stack if "/training/" in each.filename]
        ours = [each for each in frames if "/tests/" not in each.filename] or frames
        self.found.append(
            f"{name} at {ours[-1].filename.rpartition('/training/')[2]}:{ours[-1].lineno}" if ours else name
        )

    def _waits(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        if name in _BY_VALUES:
            return True
        if name in _INDEXING:
            indices = [each for each in args[1] if each is not None]
            return any(each.dtype == torch.bool or not isinstance(each, OtherTensor) for each in indices)
        if name == "_to_copy":
            device = kwargs.get("device")
            crosses = device is not None and (device == OTHER) is not isinstance(args[0], OtherTensor)
            return crosses and not kwargs.get("non_blocking")
        if name == "copy_":
            crosses = isinstance(args[0], OtherTensor) is not isinstance(args[1], OtherTensor)
            return crosses and not (kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
        return False


@contextmanager
def watched_device() -> Iterator[Waits]:
    """Give `torch.device("meta")` values, the fused Adam and a record of waits."""
    waits = Waits()
    to_list = OtherTensor.tolist

    def tolist(tensor: OtherTensor) -> Any:
        waits.note("tolist")
        return to_list(tensor)

    fused = patch("torch.optim.optimizer._get_fused_kernels_supported_devices", lambda: ["cpu", "meta"])
    with other_device(), waits, fused, patch.object(OtherTensor, "tolist", tolist):
        yield waits
