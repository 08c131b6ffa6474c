"""Fields of a run's configuration that depend on its data and on given weights."""

from dataclasses import asdict, replace

from pipelines.assets import weights
from pipelines.dataset.manifest import read_manifest
from training.checkpoints.bundle import differences, load_bundle
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


def with_initial_model(config: TrainConfig, url: str) -> TrainConfig:
    """Return the config of a run that starts from the weights of a base model.

    Raises:
        FileNotFoundError: there is nothing at `url`.
        ValueError: it is no base model, or has another architecture, crop or detector; the message shows the
            differences.
    """
    model = load_bundle(url)
    different = differences(asdict(model.config.model), asdict(config.model), ignore=set())
    if different:
        raise ValueError(f"{url} is no model to start from here: {'; '.join(different)}")
    return replace(config, start_from=InitialModel(model.version, model.origin.images_seen))
