"""What a run's configuration takes from its data and from the weights it is given."""

from dataclasses import asdict, replace

from pipelines.assets import weights
from pipelines.dataset.manifest import read_manifest
from training.checkpoints.bundle import differences, load_bundle
from training.config import InitialModel, TrainConfig
from training.losses.perceptual import load_perceptual
from training.losses.perceptual_files import PerceptualFiles


def with_detector_of(config: TrainConfig, data_root: str) -> TrainConfig:
    """The config for a model of the landmarks that the data set has.

    The checkpoint records whose they are, and whatever is made with the model asks for the same; a run cannot go on
    with those of another detector.

    Raises:
        ValueError: there is no data set.
    """
    return replace(config, model=replace(config.model, detector=read_manifest(data_root).detector))


def with_published_perceptual(config: TrainConfig, files: PerceptualFiles) -> TrainConfig:
    """The config with the published content loss, of exactly these weights; they are read once to see that they fit.

    Raises:
        FileNotFoundError, ValueError, OSError: as `load_perceptual` does.
    """
    _, vgg19 = weights.fetch(files.vgg19)
    _, vggface = weights.fetch(files.vggface)
    config = replace(config, perceptual="vgg19_vggface", vgg19_sha256=vgg19, vggface_sha256=vggface)
    load_perceptual(config, files)
    return config


def with_initial_model(config: TrainConfig, url: str) -> TrainConfig:
    """The config of a run that begins with the weights of a base model.

    Raises:
        FileNotFoundError: nothing is at `url`.
        ValueError: it is no base model, or of another architecture, crop or detector; the message says what differs.
    """
    model = load_bundle(url)
    different = differences(asdict(model.config.model), asdict(config.model), ignore=set())
    if different:
        raise ValueError(f"{url} is no model to start from here: {'; '.join(different)}")
    return replace(config, start_from=InitialModel(model.version, model.origin.images_seen))
