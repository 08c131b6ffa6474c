"""A device of its own for tests on machines without one: the name is `meta`, the numbers lie in the CPU's memory.

Within `other_device()`, tensors on `torch.device("meta")` have values, and an operation on tensors of this device and
of the CPU raises, as it would between CUDA and the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

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
