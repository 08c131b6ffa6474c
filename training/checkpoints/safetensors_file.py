"""Safetensors files from outside: their sizes have to be possible, and their tensors those that are wanted."""

import json
from collections.abc import Mapping

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from pipelines import storage

SUFFIX = ".safetensors"
_MAX_HEADER_BYTES = 10_000_000  # ours have some ten thousand


def check_size(url: str) -> None:
    """Refuse a file whose header does not describe it. Reads nothing but the header.

    Raises:
        ValueError: the file is cut off, has more than its tensors, or is none; the message names it.
    """
    size = storage.size(url)
    if size < 8:
        raise ValueError(f"{url} is damaged: {size} bytes are no safetensors file")
    (start,) = storage.ranges([url], [0], [8])
    length = int.from_bytes(start, "little")
    if length > min(size - 8, _MAX_HEADER_BYTES):
        raise ValueError(f"{url} is damaged: it claims a header of {length} bytes, and has {size} in all")
    (header,) = storage.ranges([url], [8], [length])
    try:
        tensors = [entry for name, entry in json.loads(header).items() if name != "__metadata__"]
        end = max((int(entry["data_offsets"][1]) for entry in tensors), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise ValueError(f"{url} is damaged: its header is none of a safetensors file") from None
    if 8 + length + end != size:
        raise ValueError(f"{url} is damaged: its header speaks of {8 + length + end} bytes, it has {size}")


def read(data: bytes, name: str, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with the names and shapes of `like`.

    Raises:
        ValueError: no safetensors, or others; the message says `name` and what differs.
    """
    try:
        found: dict[str, Tensor] = safetensors.torch.load(data)
    except SafetensorError as error:
        raise ValueError(f"{name} is no safetensors file: {error}") from None
    theirs, ours = ({key: tuple(value.shape) for key, value in each.items()} for each in (found, like))
    different = [
        f"{key}: {theirs.get(key)} -> {ours.get(key)}"
        for key in sorted(theirs.keys() | ours.keys())
        if theirs.get(key) != ours.get(key)
    ]
    if different:
        raise ValueError(f"{name} does not fit this architecture: {'; '.join(different)}"[:300])
    return found
