"""A base model for use alone: without what only training needs, its matrices in half precision."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from pipelines import storage
from training.checkpoints.bundle import (
    CONFIG,
    INFERENCE_NETWORKS,
    MANIFEST,
    load_bundle,
    read_with_manifest,
    weights_of,
    write_with_manifest,
)
from training.checkpoints.model_card import CARD, FILES_HEADING, files_section
from training.checkpoints.safetensors_file import SUFFIX

_LARGEST_FILE = 16 * 2**20  # bytes; what mail, version control and simple hosts still take
_HEADER_ENTRY = 256  # bytes at most: a tensor's name, kind, shape and place


def export_bundle(source: str, target: str, card: str | None = None) -> int:
    """Write E, G and D of a bundle to another; returns the bytes of its files.

    Optimisers, identity rows and the weights that are not averaged stay behind, so that training cannot be resumed from
    it. Vectors (biases, norms, the directions of spectral norm) keep their precision: they are few. What would be
    larger than 16 MiB becomes several files. Of where the data set lay on this machine the name alone is kept.

    Args:
        source: path or URL, as `target`.
        card: Markdown in place of the card that lies beside `source`, if one does. The list of files is put at its end.

    Raises:
        FileNotFoundError: nothing is at `source`.
        ValueError: it is no bundle or a damaged one, or holds numbers too large for half precision; or `target` is
            where it lies: what training needs would be lost.
    """
    if target.rstrip("/") == source.rstrip("/"):
        raise ValueError(f"{source} cannot be exported onto itself: name another folder")
    dataset = load_bundle(source).origin.dataset  # and whether all fits the architecture
    files = read_with_manifest(source, CONFIG)
    config = json.loads(files[CONFIG])
    config["origin"]["dataset"] = _known_elsewhere(dataset)
    kept = {CONFIG: (json.dumps(config, indent=1, sort_keys=True) + "\n").encode()}
    for name in INFERENCE_NETWORKS:
        kept |= _in_parts(name, _halved(weights_of(files, name, source), f"{source}/{name}{SUFFIX}"))
    # An older model that is overwritten is none while that lasts: cut short, the command is run again.
    storage.remove(storage.join(target, MANIFEST))
    write_with_manifest(target, kept)
    manifest = storage.read_bytes(storage.join(target, MANIFEST))
    hashes = json.loads(manifest)["sha256"] | {MANIFEST: hashlib.sha256(manifest).hexdigest()}
    theirs = storage.join(source, CARD)
    if card is None and storage.exists(theirs):
        card = storage.read_bytes(theirs).decode().replace(dataset, _known_elsewhere(dataset))
    about = [card.partition(FILES_HEADING)[0].rstrip()] if card is not None else []
    text = "\n\n".join([*about, files_section(hashes)]) + "\n"
    storage.write_bytes(storage.join(target, CARD), text.encode())
    return sum(map(len, kept.values())) + len(manifest) + len(text.encode())


def _known_elsewhere(dataset: str) -> str:
    """Of a path on this machine the name alone; a URL as it is."""
    return dataset if "://" in dataset else Path(dataset).name


def _halved(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    halved = {
        key: value.half() if value.ndim > 1 and value.is_floating_point() else value for key, value in tensors.items()
    }
    for key, value in halved.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"{name}: {key} does not fit into half precision")
    return halved


def _in_parts(name: str, tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
    """A file, or as many as it takes, none larger than `_LARGEST_FILE` but for a tensor that is."""
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for key, value in tensors.items():
        room = value.nbytes + _HEADER_ENTRY
        if parts[-1] and size + room > _LARGEST_FILE:
            parts.append({})
            size = 0
        parts[-1][key] = value
        size += room
    written = [safetensors.torch.save(part) for part in parts]
    if len(written) == 1:
        return {f"{name}{SUFFIX}": written[0]}
    return {f"{name}-{at:05d}-of-{len(written):05d}{SUFFIX}": data for at, data in enumerate(written, 1)}
