"""Fields of a run's configuration that depend on its data and on given weights."""

import re
from dataclasses import asdict, replace

from pipelines import storage
from pipelines.assets import weights
from pipelines.dataset.manifest import read_manifest
from training.checkpoints.bundle import MANIFEST, copy_bundle, differences, load_bundle
from training.checkpoints.model_registry import is_registered, locate
from training.config import InitialModel, TrainConfig
from training.losses.perceptual import load_perceptual
from training.losses.perceptual_files import PerceptualFiles


def with_detector_of(config: TrainConfig, data_root: str) -> TrainConfig:
    """Return the config with the landmark detector of a data set.

    The model records it: avatars and drivers need landmarks of the same detector, and so does resuming a run.

    Raises:
        ValueError: there is no data set.
    """
    return replace(config, model=replace(config.model, detector=read_manifest(data_root).detector))


def with_published_perceptual(config: TrainConfig, files: PerceptualFiles) -> TrainConfig:
    """Return the config with the published content loss and the sha256 of these weights, after loading them once.

    Raises:
        FileNotFoundError, ValueError, OSError: see `load_perceptual`.
    """
    _, vgg19 = weights.fetch(files.vgg19)
    _, vggface = weights.fetch(files.vggface)
    config = replace(config, perceptual="vgg19_vggface", vgg19_sha256=vgg19, vggface_sha256=vggface)
    load_perceptual(config, files)
    return config


def with_initial_model(config: TrainConfig, url: str, name: str | None = None) -> TrainConfig:
    """Return the config of a run that starts from the weights of a base model.

    Args:
        name: what messages call it; default: `url`.

    Raises:
        FileNotFoundError: there is nothing at `url`.
        ValueError: it is no base model, or has another architecture, crop or detector; the message shows the
            differences.
    """
    model = load_bundle(url)
    different = differences(asdict(model.config.model), asdict(config.model), ignore=set())
    if different:
        raise ValueError(f"{name or url} is no model to start from here: {'; '.join(different)}")
    return replace(config, start_from=InitialModel(model.version, model.origin.images_seen))


def initial_model(model: str, run: str, tracking_uri: str) -> str:
    """Return the absolute path or URL of the base model that `model` names; of a registered one the run's own copy, if
    there is one: its alias may have moved since.

    Args:
        tracking_uri: the registry if MLFLOW_TRACKING_URI is not set.

    Raises:
        ValueError: the registry has no such model or cannot be reached.
    """
    kept = _own_copy(run, model)
    if is_registered(model) and storage.exists(storage.join(kept, MANIFEST)):
        return kept
    return storage.absolute(locate(model, tracking_uri))


def keep_initial_model(model: str, url: str, run: str) -> str:
    """Copy a registered model into the run, where every worker can read it; return its URL, or `url` of any other."""
    kept = _own_copy(run, model)
    if not is_registered(model):
        return url
    if not storage.exists(storage.join(kept, MANIFEST)):
        copy_bundle(url, kept)
    return kept


def _own_copy(run: str, model: str) -> str:
    return storage.join(run, "initial-model", re.sub(r"[^\w.-]+", "-", model))
