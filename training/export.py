"""A base model for use alone: without what only training needs, its matrices in half precision."""

import hashlib
import json
from pathlib import Path

import safetensors.torch
import torch

from pipelines import storage
from training.checkpoint import CONFIG, MANIFEST, load_bundle, read_with_manifest, write_with_manifest
from training.model_card import CARD, FILES_HEADING, files_section

_NETWORKS = ("ema_embedder.safetensors", "ema_generator.safetensors", "discriminator.safetensors")


def export_bundle(source: str, target: str, card: str | None = None) -> int:
    """Write E, G and D of a bundle to another; returns the bytes of its files.

    Optimisers, identity rows and the weights that are not averaged stay behind, so that training cannot be resumed from
    it. Vectors (biases, norms, the directions of spectral norm) keep their precision: they are few. Of where
    the data set lay on this machine the name alone is kept.

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
    files = read_with_manifest(source, CONFIG, *_NETWORKS)
    config = json.loads(files[CONFIG])
    config["origin"]["dataset"] = _known_elsewhere(dataset)
    kept = {CONFIG: (json.dumps(config, indent=1, sort_keys=True) + "\n").encode()} | {
        name: _halved(files[name], f"{source}/{name}") for name in _NETWORKS
    }
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


def _halved(data: bytes, name: str) -> bytes:
    tensors = safetensors.torch.load(data)
    halved = {
        key: value.half() if value.ndim > 1 and value.is_floating_point() else value for key, value in tensors.items()
    }
    for key, value in halved.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"{name}: {key} does not fit into half precision")
    written: bytes = safetensors.torch.save(halved)
    return written
