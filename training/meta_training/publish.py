"""Publish a finished run: copy its newest checkpoint to the output with a model card, and register it in MLflow."""

import json
from dataclasses import replace

from torch import nn

from pipelines import storage
from training.checkpoints.bundle import MANIFEST, copy_bundle, load_bundle
from training.checkpoints.model_card import CARD, Training, model_card, summary
from training.episodes.source import SourceDescription
from training.tracking.tracker import Tracker

_ARTIFACT = "model"


def publish(checkpoint: str, out: str, data: SourceDescription, training: Training, tracker: Tracker) -> str:
    """Copy a checkpoint's files to `out` with a model card, log and register them; return `models:/…`.

    The manifest does not list the card: equal weights have equal versions, whenever they were trained.

    Args:
        checkpoint: path or URL.
        training: without `num_parameters`, which is filled in here.

    Raises:
        ValueError: the checkpoint is damaged.
        OSError: writing to `out` failed.
    """
    model = load_bundle(checkpoint)
    networks = {name: getattr(model, name) for name in ("embedder", "generator", "discriminator")}
    training = replace(training, num_parameters={name: _size(network) for name, network in networks.items()})
    hashes = json.loads(storage.read_bytes(storage.join(checkpoint, MANIFEST)))["sha256"] | {MANIFEST: model.version}
    card = model_card(model.config, model.origin, data, training, hashes)
    # Remove the old manifest first: an interrupted copy then leaves an incomplete bundle, not a mixed one.
    storage.remove(storage.join(out, MANIFEST))
    storage.write_bytes(storage.join(out, CARD), card.encode())
    copy_bundle(checkpoint, out)
    tracker.log_files(out, (*sorted(set(hashes) - {MANIFEST}), CARD, MANIFEST), _ARTIFACT)
    tags = {"preset": training.preset, "step": str(model.origin.step), "dataset_digest": data.digest}
    return tracker.register(_ARTIFACT, model.version, summary(model.config, model.origin, data, training), tags)


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
