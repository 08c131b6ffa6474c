"""The end of a training: its newest checkpoint becomes the run's base model, with a card, in MLflow's registry too."""

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
    """Copy a checkpoint's files to `out` with a model card, log and register them; returns `models:/…`.

    The card lies beside the manifest and is not named by it: the same weights are the same version, whoever trained
    them when.

    Args:
        checkpoint: path or URL.
        training: without the networks' sizes, which are counted here.

    Raises:
        ValueError: the checkpoint is damaged.
        OSError: `out` does not take the files.
    """
    model = load_bundle(checkpoint)
    networks = {name: getattr(model, name) for name in ("embedder", "generator", "discriminator")}
    training = replace(training, num_parameters={name: _size(network) for name, network in networks.items()})
    hashes = json.loads(storage.read_bytes(storage.join(checkpoint, MANIFEST)))["sha256"] | {MANIFEST: model.version}
    card = model_card(model.config, model.origin, data, training, hashes)
    # An older model that is overwritten is none while that lasts: cut short, the command is run again.
    storage.remove(storage.join(out, MANIFEST))
    storage.write_bytes(storage.join(out, CARD), card.encode())
    copy_bundle(checkpoint, out)
    tracker.log_files(out, (*sorted(set(hashes) - {MANIFEST}), CARD, MANIFEST), _ARTIFACT)
    tags = {"preset": training.preset, "step": str(model.origin.step), "dataset_digest": data.digest}
    return tracker.register(_ARTIFACT, model.version, summary(model.config, model.origin, data, training), tags)


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
