"""Base model bundles: all that is needed to rebuild, resume and serve a model, as safetensors, JSON and Parquet.

`manifest.json` holds the sha256 of each file and is written last: a folder without it is no bundle, and reading rejects
a truncated or altered file by name.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import safetensors.torch
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from pipelines import storage
from training.checkpoints import safetensors_file
from training.checkpoints.model_lineage import ModelLineage, run_of
from training.config import TrainConfig
from training.models.discriminator import Discriminator
from training.models.embedder import Embedder
from training.models.generator import Generator

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
CONFIG = "config.json"
INFERENCE_NETWORKS = ("ema_embedder", "ema_generator", "discriminator")
"""Networks that fine-tuning and inference need; their files are `NAME.safetensors`."""


@dataclass(frozen=True)
class TrainingProvenance:
    """How a model was trained."""

    step: int
    """Generator updates."""
    images_seen: int
    """Target frames the generator was trained on, including those of the model it started from."""
    dataset: str
    """URL of the data set."""
    dataset_digest: str
    """sha256 of its dataset.json."""
    skipped_steps: int = 0
    """Steps without an update, because gradients were not finite."""
    rollbacks: int = 0
    """Times training went back to its last checkpoint after several skipped steps."""


@dataclass(frozen=True)
class BaseModel:
    """A meta-trained model for fine-tuning and rendering: averaged E and G, and D."""

    config: TrainConfig
    origin: TrainingProvenance
    embedder: Embedder
    generator: Generator
    discriminator: Discriminator
    version: str
    """sha256 of the bundle's manifest."""
    mlflow_run: str | None = None
    """MLflow run that trained it; None where its folder does not name one."""

    @property
    def lineage(self) -> ModelLineage:
        """Run and data set of the training."""
        return ModelLineage(self.mlflow_run, self.origin.dataset_digest)


def load_bundle(url: str) -> BaseModel:
    """Load the averaged E and G, and D, of a bundle, in evaluation mode on the CPU.

    Raises:
        FileNotFoundError: there is nothing at `url`.
        ValueError: it is no bundle, or a file is missing, altered, or of another architecture; the message names it.
    """
    files = read_with_manifest(url, CONFIG)
    config, origin = read_config(url, files[CONFIG])
    embedder, generator = Embedder(config.model), Generator(config.model)
    discriminator = Discriminator(config.model)
    for name, network in zip(INFERENCE_NETWORKS, (embedder, generator, discriminator), strict=True):
        _load_state(network, weights_of(files, name, url), f"{url}/{name}{safetensors_file.SUFFIX}")
    version = hashlib.sha256(files[MANIFEST]).hexdigest()
    return BaseModel(config, origin, embedder.eval(), generator.eval(), discriminator.eval(), version, run_of(url))


def newest_intact(folder: str) -> tuple[str | None, list[str]]:
    """Return the newest undamaged bundle below `folder`, and a message for each newer, damaged one.

    Names of bundles sort by age. A folder without a manifest is incomplete and ignored. Returns None if there are none.

    Raises:
        ValueError: all bundles are damaged. Starting over would silently discard the run.
    """
    files = storage.list(folder)
    bundles = sorted((storage.parent(file) for file in files if file.endswith(f"/{MANIFEST}")), reverse=True)
    damage: list[str] = []
    for bundle in bundles:
        try:
            read_with_manifest(bundle, CONFIG)
        except ValueError as error:
            damage.append(str(error))
        else:
            return bundle, damage
    if damage:
        raise ValueError(f"every checkpoint below {folder} is damaged: {damage[0]}; remove that folder to begin anew")
    return None, []


def copy_bundle(source: str, target: str) -> None:
    """Copy a bundle from one path or URL to another, verifying hashes, the manifest last."""
    files = read_with_manifest(source, CONFIG)
    for name in sorted(files, key=lambda name: name == MANIFEST):
        storage.write_bytes(storage.join(target, name), files[name])


def differences(old: Mapping[str, Any], new: Mapping[str, Any], ignore: set[str], prefix: str = "") -> list[str]:
    """Return `field: old -> new` for every leaf that differs."""
    found = []
    for name in sorted((old.keys() | new.keys()) - ignore):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, ignore, f"{prefix}{name}.")
        elif before != after:
            found.append(f"{prefix}{name}: {before} -> {after}")
    return found


def _unknown_fields(stored: Mapping[str, Any], known: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = [f"{prefix}{name}" for name in stored if name not in known]
    for name in stored.keys() & known.keys():
        if isinstance(stored[name], Mapping) and isinstance(known[name], Mapping):
            found += _unknown_fields(stored[name], known[name], f"{prefix}{name}.")
    return found


def write_with_manifest(url: str, files: Mapping[str, bytes], **facts: Any) -> None:
    """Write files below `url`, then a manifest with `facts` and the sha256 of each file."""
    for name, data in files.items():
        storage.write_bytes(storage.join(url, name), data)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    storage.write_bytes(storage.join(url, MANIFEST), json_bytes({**facts, "sha256": hashes}))


def read_with_manifest(url: str, *required: str) -> dict[str, bytes]:
    """Read a manifest and all files that it names, and verify them.

    Raises:
        FileNotFoundError: there is nothing at `url`.
        ValueError: there is no manifest, it lacks a `required` file, or a file is missing or has another sha256.
    """
    manifest = storage.join(url, MANIFEST)
    if not storage.exists(manifest):
        if not storage.exists(url):
            raise FileNotFoundError(f"{url} does not exist")
        raise ValueError(f"{url} holds no {MANIFEST}: it is no model or avatar, or its writing was cut short")
    data = storage.read_bytes(manifest)
    try:
        hashes = TypeAdapter(dict[str, str]).validate_python(json.loads(data)["sha256"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{manifest} is no manifest: {type(error).__name__}") from None
    for name in required:
        if name not in hashes:
            raise ValueError(f"{url} is something else than expected here: its {MANIFEST} names no {name}")
    files = {MANIFEST: data}
    for name, expected in hashes.items():
        path = storage.join(url, name)
        if "/" in name or not storage.exists(path):
            raise ValueError(f"{path} is missing, though {MANIFEST} names it")
        if name.endswith(safetensors_file.SUFFIX):
            safetensors_file.check_size(path)
        files[name] = storage.read_bytes(path)
        found = hashlib.sha256(files[name]).hexdigest()
        if found != expected:
            raise ValueError(f"{path} is damaged: its sha256 is {found[:12]}…, {MANIFEST} says {expected[:12]}…")
    return files


def weights_of(files: Mapping[str, bytes], name: str, url: str) -> dict[str, Tensor]:
    """Return a network's tensors from `name.safetensors`, or from its parts `name-00001-of-00002.safetensors`.

    Raises:
        ValueError: there is no such file, a part is missing, or one is no safetensors; the message names `url`.
    """
    found = {
        file: re.fullmatch(rf"{name}(?:-(\d+)-of-(\d+))?\{safetensors_file.SUFFIX}", file) for file in sorted(files)
    }
    parts = {file: match for file, match in found.items() if match}
    if not parts:
        raise ValueError(f"{url} is something else than expected here: its {MANIFEST} names no {name}.safetensors")
    wanted = {int(match[2] or 1) for match in parts.values()}
    if wanted != {len(parts)} or [int(match[1] or 1) for match in parts.values()] != [*range(1, len(parts) + 1)]:
        raise ValueError(f"{url} is incomplete: its {MANIFEST} names {', '.join(parts)}, and those are not all parts")
    weights: dict[str, Tensor] = {}
    for file in parts:
        weights |= _tensors(files[file], f"{url}/{file}")
    return weights


def load_weights(network: torch.nn.Module, data: bytes, name: str) -> None:
    """Load safetensors into a network.

    Raises:
        ValueError: `data` is no safetensors, or has tensors of another architecture.
    """
    _load_state(network, _tensors(data, name), name)


def _tensors(data: bytes, name: str) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(data)
    except SafetensorError as error:
        raise _misfit(name, error) from None
    return tensors


def _load_state(network: torch.nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise _misfit(name, error) from None


def _misfit(name: str, error: Exception) -> ValueError:
    return ValueError(f"{name} does not fit this architecture: {' '.join(str(error).split())[:200]}")


def read_config(url: str, data: bytes) -> tuple[TrainConfig, TrainingProvenance]:
    """Parse the content of a bundle's config.json.

    Raises:
        ValueError: it is no configuration, of another schema, or has invalid or unknown fields.
    """
    try:
        raw = json.loads(data)
        schema = raw["schema_version"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{url}/{CONFIG} is no base model's: {type(error).__name__}") from None
    if schema != SCHEMA_VERSION:
        raise ValueError(f"{url} has bundle schema {schema}, this version reads {SCHEMA_VERSION}")
    try:
        config = TypeAdapter(TrainConfig).validate_python(raw["config"])
        origin = TypeAdapter(TrainingProvenance).validate_python(raw["origin"])
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{url}/{CONFIG}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    unknown = _unknown_fields(raw["config"], asdict(config))
    if unknown:
        raise ValueError(f"{url}/{CONFIG} has fields this version does not know: {', '.join(unknown)}")
    return config, origin


def json_bytes(value: Any) -> bytes:
    """Return indented JSON with sorted keys."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
