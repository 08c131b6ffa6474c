"""Who is compared: the model, those beside it, and the baselines that need none."""

from collections.abc import Mapping, Sequence

import torch

from training.avatars.finetune import FineTuneConfig
from training.checkpoints.bundle import BaseModel, load_bundle
from training.checkpoints.model_registry import locate
from training.evaluation.methods import (
    TRUE_FRAME,
    FeedForward,
    FineTuned,
    MeanFrame,
    Method,
    NearestFrame,
    StaticPortrait,
    WarpAlone,
    WarpOfPerson,
)

OURS = "ours"
"""The row of the model that is evaluated."""
STILL = (MeanFrame.name, NearestFrame.name)
"""Baselines that are the static portrait again where one portrait is driven."""
_BASELINES = (TRUE_FRAME, StaticPortrait.name, WarpAlone.name, WarpOfPerson.name, *STILL)


def load_models(model: str, also: Sequence[str], *, same_size: bool = True) -> dict[str, BaseModel]:
    """The model and those beside it, by the names of their rows; all draw the same frames.

    Args:
        model: path or URL of a bundle, or `shipped`.
        also: NAME=PATH of further ones.
        same_size: whether they have to draw pictures of one size.

    Raises:
        FileNotFoundError, ValueError: one is not there or no model, two have one name, or they do not fit together.
    """
    models = {OURS: load_bundle(locate(model))}
    for word in also:
        name, _, path = word.partition("=")
        if not name or not path:
            raise ValueError(f"--compare takes NAME=PATH, got {word!r}")
        if name in models or name in _BASELINES:
            raise ValueError(f"--compare {word}: there is a row {name!r} already")
        models[name] = load_bundle(locate(path))
    wanted = models[OURS].config.model
    for name, other in models.items():
        for field in ("crop", "detector", *(["image_size"] if same_size else [])):
            theirs, ours = getattr(other.config.model, field), getattr(wanted, field)
            if theirs != ours:
                raise ValueError(f"{name} has {field} {theirs}, {model} has {ours}: no one table")
    return models


def all_methods(
    models: Mapping[str, BaseModel], tuning: FineTuneConfig | None, device: torch.device
) -> tuple[Method, ...]:
    """The rows of the tables below the true frame: baselines, then each model, feed-forward and fine-tuned.

    Args:
        tuning: how to fine-tune; None leaves those rows out.
    """
    networks: list[Method] = []
    for name, model in models.items():
        networks.append(FeedForward(name, model, device))
        if tuning is not None:
            networks.append(FineTuned(f"{name}, fine-tuned", model, tuning, device))
    ours = models[OURS].config.model
    warps = WarpAlone(ours, device), WarpOfPerson(ours, device)
    return StaticPortrait(), MeanFrame(), NearestFrame(), *warps, *networks
