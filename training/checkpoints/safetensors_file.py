"""Validation of untrusted safetensors files: consistent sizes, expected tensors."""

import json
from collections.abc import Mapping

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from pipelines import storage

SUFFIX = ".safetensors"
_MAX_HEADER_BYTES = 10_000_000  # headers of our networks have about 10,000


def check_size(url: str) -> None:
    """Check that a file's size matches its header. Reads only the header.

    Raises:
        ValueError: the file is truncated, has trailing data, or is no safetensors; the message names it.
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
    """Parse safetensors that must have the names and shapes of `like`.

    Raises:
        ValueError: it is no safetensors, or names or shapes differ; the message names the file and the differences.
    """
    try:
        found: dict[str, Tensor] = safetensors.torch.load(data)
    except SafetensorError as error:
        raise ValueError(f"{name} is no safetensors file: {error}") from None
    stored, expected = ({key: tuple(value.shape) for key, value in each.items()} for each in (found, like))
    different = [
        f"{key}: {stored.get(key)} -> {expected.get(key)}"
        for key in sorted(stored.keys() | expected.keys())
        if stored.get(key) != expected.get(key)
    ]
    if different:
        raise ValueError(f"{name} does not fit this architecture: {'; '.join(different)}"[:300])
    return found
