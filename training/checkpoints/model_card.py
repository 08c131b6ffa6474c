"""The model card (README.md) of a base model, and the description of its registered version."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from pipelines.dataset.data_card import escape_line, table
from training.checkpoints.bundle import TrainingProvenance
from training.checkpoints.model_lineage import run_line
from training.config import InitialModel, TrainConfig
from training.episodes.source import SourceDescription
from training.tracking.tracker import flattened

CARD = "README.md"
FILES_HEADING = "## Files"
"""First line of `files_section`."""
_MOTION = {
    "clips": "partly that of a few real films, recombined, and partly made up",
    "procedural": "made up too",
}
_MARKED = """Say that what it makes is generated. `sfumato fine-tune --consent` keeps the statement of the person shown
with the avatar, and rendered videos are marked."""
_NETWORKS = (("embedder", "E"), ("generator", "G"), ("discriminator", "D"))


@dataclass(frozen=True)
class Training:
    """What is known of how a model was trained."""

    preset: str
    command: str
    """The command that repeats the training."""
    code_version: str
    starts: tuple[str, ...] = ()
    """Times at which the command was started, restarts included (UTC)."""
    finished: str = ""
    """When training ended (UTC)."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Means over the last logged steps."""
    hardware: Mapping[str, str] = field(default_factory=dict)
    """See training.meta_training.metrics.system_metrics.describe; may be empty."""
    num_parameters: Mapping[str, int] = field(default_factory=dict)
    """Number of parameters by network."""
    mlflow_run: str | None = None
    """MLflow's id of the run; None while MLflow has not been reached."""


def model_card(
    config: TrainConfig,
    origin: TrainingProvenance,
    data: SourceDescription,
    training: Training,
    hashes: Mapping[str, str],
) -> str:
    """Return the card as Markdown; deterministic.

    Args:
        data: description of the training data, such as a data set's manifest.
        hashes: sha256 of each file of the bundle.
    """
    sections = (
        summary(config, origin, data, training),
        _training(origin, training, config.start_from),
        _metrics(training.metrics),
        _use(),
        _people(config),
        _reproduction(origin, data, training),
        _config(config),
        files_section(hashes),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def summary(config: TrainConfig, origin: TrainingProvenance, data: SourceDescription, training: Training) -> str:
    """Return the first section, which is short enough for MLflow's registry."""
    form = (
        "a warp of the portrait, and a network that moves it further and paints what no motion can do"
        if config.model.warp_prior
        else "the published form: the network paints every pixel"
    )
    sizes = ", ".join(
        f"{name} ({letter}) {training.num_parameters[name] / 1e6:.2f} M"
        for name, letter in _NETWORKS
        if name in training.num_parameters
    )
    return f"""# Talking-head base model

Animates a portrait by 68 landmarks, from one or a few pictures of a person. Few-shot adversarial learning of neural
talking heads (arXiv 1905.08233), preset `{training.preset}`. Made by `sfumato meta-train` {training.code_version}.

- Form: {form}
- Picture: {config.model.image_size} x {config.model.image_size} pixels
- Parameters: {sizes or "not counted"}
- Trained: {origin.step:,} steps of {config.episodes_per_step} episodes, {origin.images_seen:,} images seen, K = \
{config.num_shots} shots
- Landmarks: {config.model.detector}; a picture to animate needs the same
- Data set: {escape_line(data.source)}, licence {escape_line(data.licence)}, {_amount(data)}digest `{data.digest}`"""


def _amount(data: SourceDescription) -> str:
    return f"{data.counts['done']:,} clips, " if "done" in data.counts else ""


def _training(origin: TrainingProvenance, training: Training, initial: InitialModel | None) -> str:
    first, *more = training.starts
    lines = [f"- Started: {first} UTC", f"- Finished: {training.finished} UTC"]
    if more:
        lines.insert(1, f"- Started again: {len(more)} times, last {more[-1]} UTC")
    names = {"device": "Device", "workers": "Workers", "machine": "Machine of the first worker"}
    lines += [f"- {names[name]}: {escape_line(value)}" for name, value in training.hardware.items() if name in names]
    lines.append(f"- Data: {escape_line(origin.dataset)}")
    if training.mlflow_run is not None:
        lines.append(run_line(training.mlflow_run))
    if initial is not None:
        lines.append(f"- Began with: base model `{initial.version[:12]}`, {initial.images_seen:,} of the images seen")
    return "## How it was trained\n\n" + "\n".join(lines)


def _metrics(metrics: Mapping[str, float]) -> str:
    shown = {name: value for name, value in sorted(metrics.items()) if not name.startswith("system/")}
    if not shown:
        return ""
    rows = [(name, f"{value:.4g}") for name, value in shown.items()]
    return f"""## Last values in training

{table(("metric", "value"), rows)}

Means over the last steps that were logged, on training episodes: they say whether training was sound, not how good the
model is. `sfumato evaluate` measures that."""


def _use() -> str:
    return """## Meant for, and not

- Meant for: animating people who agreed to it, paintings, statues; research on the method.
- Not meant for: showing anyone say or do what they did not without their consent; recognising people; judging them.
- Faces unlike those of the data set, strong turns of the head, hands before the face and glasses come out worse.
- Who is in the data set decides whom the model draws well; ages, skin tones and languages were neither measured nor
  balanced here."""


def _people(config: TrainConfig) -> str:
    if config.online is not None:
        return f"""## People and generated media

Nobody's face was shown in training: the people were drawn by a computer, from a model of heads and random numbers.
Their motion was {_MOTION[config.online.motion]}.

{_MARKED}"""
    return f"""## People and generated media

Of real people that the data set shows the weights keep traces, and `identity_rows.safetensors`, where it is among the
files, has a vector for each video. Taking a person out of the data set (`sfumato forget`) does not take them out of
this model: train again.

{_MARKED}"""


def _data_location(origin: TrainingProvenance, data: SourceDescription) -> str:
    """Name the data set that repeating the training needs; synthetic people need none."""
    if "done" not in data.counts:
        return ""
    return f" and the data set of digest `{data.digest}` (it lay at\n{escape_line(origin.dataset)})"


def _reproduction(origin: TrainingProvenance, data: SourceDescription, training: Training) -> str:
    return f"""## How to make it again

```
{training.command}
```

With version {training.code_version} of the code{_data_location(origin, data)}."""


def _config(config: TrainConfig) -> str:
    rows = [(f"`{name}`", value) for name, value in flattened(asdict(config)).items()]
    return "## Configuration\n\n" + table(("field", "value"), rows)


def files_section(hashes: Mapping[str, str]) -> str:
    """Return the last section: names of files and their sha256."""
    rows = [(name, f"`{digest}`") for name, digest in sorted(hashes.items())]
    return f"{FILES_HEADING}\n\n" + table(("file", "sha256"), rows)
