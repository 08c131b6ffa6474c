"""The methods of an evaluation: the model, further models, and the baselines, which need no model."""

from collections.abc import Mapping, Sequence

import torch

from training.avatars.finetune import FineTuneConfig
from training.checkpoints.bundle import BaseModel, load_bundle
from training.checkpoints.model_registry import locate
from training.evaluation.as_rendered import AsRendered
from training.evaluation.methods import (
    TRUE_FRAME,
    FeedForward,
    FineTuned,
    Method,
    WarpAlone,
    WarpOfPerson,
)
from training.evaluation.still_methods import MeanFrame, NearestFrame, StaticPortrait

OURS = "ours"
"""Row name of the evaluated model."""
STILL = (MeanFrame.name, NearestFrame.name)
"""Baselines that equal the static portrait if there is only one shot, as for driven portraits."""
_BASELINES = (TRUE_FRAME, StaticPortrait.name, WarpAlone.name, WarpOfPerson.name, *STILL)


def load_models(model: str, compare: Sequence[str], *, same_size: bool = True) -> dict[str, BaseModel]:
    """Load the model and further ones, by row name.

    Args:
        model: path or URL of a bundle, models:/NAME@ALIAS, or `shipped`.
        compare: NAME=PATH of further models.
        same_size: whether all must have the same image size.

    Raises:
        FileNotFoundError, ValueError: a model does not exist or is invalid, a name is used twice, or the models have
            different crop rules, landmark detectors or (with `same_size`) image sizes.
    """
    models = {OURS: load_bundle(locate(model))}
    for argument in compare:
        name, _, path = argument.partition("=")
        if not name or not path:
            raise ValueError(f"--compare takes NAME=PATH, got {argument!r}")
        if name in models or name in _BASELINES:
            raise ValueError(f"--compare {argument}: there is a row {name!r} already")
        models[name] = load_bundle(locate(path))
    wanted = models[OURS].config.model
    for name, other in models.items():
        for field in ("crop", "detector", *(["image_size"] if same_size else [])):
            theirs, ours = getattr(other.config.model, field), getattr(wanted, field)
            if theirs != ours:
                raise ValueError(f"{name} has {field} {theirs}, {model} has {ours}: no one table")
    return models


def all_methods(
    models: Mapping[str, BaseModel], tuning: FineTuneConfig | None, device: torch.device, *, as_rendered: bool = False
) -> tuple[Method, ...]:
    """Return the methods in the order of the tables' rows: baselines, then each model, feed-forward and fine-tuned.

    Args:
        tuning: configuration of fine-tuning; None: no fine-tuned rows.
        as_rendered: whether the frames of `animate` get a row beside each of the first model's.
    """
    networks: list[Method] = []
    for name, model in models.items():
        networks.append(FeedForward(name, model, device))
        if tuning is not None:
            networks.append(FineTuned(f"{name}, fine-tuned", model, tuning, device))
    if as_rendered:
        networks.append(AsRendered(f"{OURS}, as rendered", models[OURS], FineTuneConfig(0), device))
        if tuning is not None:
            networks.append(AsRendered(f"{OURS}, fine-tuned, as rendered", models[OURS], tuning, device))
    ours = models[OURS].config.model
    warps = WarpAlone(ours, device), WarpOfPerson(ours, device)
    return StaticPortrait(), MeanFrame(), NearestFrame(), *warps, *networks
