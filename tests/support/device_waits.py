"""Find where code would wait for a device: a rehearsal on the device of `other_device`, without a GPU.

On CUDA the host waits for everything launched before when it reads a tensor (`bool`, `float`, `tolist`, `.cpu()`), when
the shape of a result depends on values (`nonzero`, `unique`, boolean masks), when an operation checks its result, and
when it copies from memory that is not pinned. `torch.cuda.set_sync_debug_mode` names the same places on a GPU.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from other_device import OTHER, OtherTensor, leaves, other_device
from torch.utils._python_dispatch import TorchDispatchMode

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
