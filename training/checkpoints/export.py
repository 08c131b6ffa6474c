"""Export a base model for inference: without the state of training, matrices in half precision."""

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

_MAX_FILE_BYTES = 16 * 2**20  # accepted by mail, version control and simple hosts
_HEADER_ENTRY_BYTES = 256  # upper bound for a tensor's entry in the header


def export_bundle(source: str, target: str, card: str | None = None) -> int:
    """Write E, G and D of a bundle to `target`; return the total size in bytes.

    Optimisers, identity rows and weights that are not averaged are left out, so that training cannot be resumed.
    Vectors (biases, norms, vectors of spectral norm) keep their precision, since they are small. Files larger than
    16 MiB are split. A local path of the data set is reduced to its name.

    Args:
        source: path or URL, like `target`.
        card: model card (Markdown) instead of the one in `source`, if any. The list of files is appended.

    Raises:
        FileNotFoundError: there is nothing at `source`.
        ValueError: it is no bundle, is damaged, or has numbers too large for half precision; or `target` equals
            `source`, where the state of training would be lost.
    """
    if target.rstrip("/") == source.rstrip("/"):
        raise ValueError(f"{source} cannot be exported onto itself: name another folder")
    dataset = load_bundle(source).origin.dataset  # also verifies that all weights fit the architecture
    files = read_with_manifest(source, CONFIG)
    config = json.loads(files[CONFIG])
    config["origin"]["dataset"] = _portable_name(dataset)
    kept = {CONFIG: (json.dumps(config, indent=1, sort_keys=True) + "\n").encode()}
    for name in INFERENCE_NETWORKS:
        kept |= _in_parts(name, _halved(weights_of(files, name, source), f"{source}/{name}{SUFFIX}"))
    # Remove the old manifest first: an interrupted export then leaves an incomplete bundle, not a mixed one.
    storage.remove(storage.join(target, MANIFEST))
    write_with_manifest(target, kept)
    manifest = storage.read_bytes(storage.join(target, MANIFEST))
    hashes = json.loads(manifest)["sha256"] | {MANIFEST: hashlib.sha256(manifest).hexdigest()}
    source_card = storage.join(source, CARD)
    if card is None and storage.exists(source_card):
        card = storage.read_bytes(source_card).decode().replace(dataset, _portable_name(dataset))
    about = [card.partition(FILES_HEADING)[0].rstrip()] if card is not None else []
    text = "\n\n".join([*about, files_section(hashes)]) + "\n"
    storage.write_bytes(storage.join(target, CARD), text.encode())
    return sum(map(len, kept.values())) + len(manifest) + len(text.encode())


def _portable_name(dataset: str) -> str:
    """Return the name of a local path; a URL unchanged."""
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
    """Serialise tensors to one file, or to several of at most `_MAX_FILE_BYTES`; a larger tensor gets its own."""
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for key, value in tensors.items():
        added = value.nbytes + _HEADER_ENTRY_BYTES
        if parts[-1] and size + added > _MAX_FILE_BYTES:
            parts.append({})
            size = 0
        parts[-1][key] = value
        size += added
    written = [safetensors.torch.save(part) for part in parts]
    if len(written) == 1:
        return {f"{name}{SUFFIX}": written[0]}
    return {f"{name}-{at:05d}-of-{len(written):05d}{SUFFIX}": data for at, data in enumerate(written, 1)}
