"""Training checkpoints: save, resume, and initialise from another model's weights."""

import io
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch
from torch import Tensor

from pipelines.one_line import one_line
from training.checkpoints import safetensors_file
from training.checkpoints.bundle import (
    CONFIG,
    SCHEMA_VERSION,
    TrainingProvenance,
    differences,
    json_bytes,
    load_bundle,
    load_weights,
    read_config,
    read_with_manifest,
    write_with_manifest,
)
from training.meta_training.step import Learner, Snapshot
from training.models.identity_rows import learned_rows

MAY_CHANGE = {"num_steps", "checkpoint_every", "engine"}
"""Fields of TrainConfig that may change when a run resumes."""


def save_bundle(url: str, snapshot: Snapshot, origin: TrainingProvenance) -> None:
    """Write a bundle with the state of training, the manifest last."""
    state = snapshot.state
    video_ids, rows = learned_rows(snapshot.video_ids, state["table"])
    embedder, generator = state["averages"]
    files = {
        CONFIG: json_bytes(
            {"schema_version": SCHEMA_VERSION, "origin": asdict(origin), "config": asdict(snapshot.config)}
        ),
        "optimizer.pt": _torch_bytes(state["optimizer"]),
        "identity_rows.safetensors": _tensor_bytes(rows),
        "identity_rows.parquet": _row_ids(video_ids),
        "ema_embedder.safetensors": _tensor_bytes(embedder),
        "ema_generator.safetensors": _tensor_bytes(generator),
    }
    files |= {f"{name}.safetensors": _tensor_bytes(weights) for name, weights in state["networks"].items()}
    write_with_manifest(url, files)


def resume(url: str, learner: Learner) -> TrainingProvenance:
    """Load a checkpoint into a new learner; rows of W are matched by video id.

    Raises:
        ValueError: the checkpoint has another configuration (the message shows the differences), or is damaged.
    """
    files = read_with_manifest(url, CONFIG, "optimizer.pt", "identity_rows.parquet")
    config, origin = read_config(url, files[CONFIG])
    different = differences(asdict(config), asdict(learner.config), ignore=MAY_CHANGE)
    if different:
        raise ValueError(f"{url} was trained with another configuration: {'; '.join(different)}")
    for name, network in learner.networks().items():
        load_weights(network, files[f"{name}.safetensors"], f"{url}/{name}.safetensors")
    for name, ema in (("embedder", learner.embedder_ema), ("generator", learner.generator_ema)):
        shadow = safetensors_file.read(files[f"ema_{name}.safetensors"], f"{url}/ema_{name}.safetensors", ema.shadow)
        ema.shadow = {key: value.to(learner.device) for key, value in shadow.items()}
    _load_optimizers(learner, files["optimizer.pt"], f"{url}/optimizer.pt")
    try:
        ids = pq.ParquetFile(io.BytesIO(files["identity_rows.parquet"])).read().column("video_id").to_pylist()
    except (pa.ArrowException, KeyError) as error:
        raise ValueError(f"{url}/identity_rows.parquet holds no video ids: {error}") from None
    sizes = {name: tensor[:1].expand(len(ids), *tensor.shape[1:]) for name, tensor in learner.table.state().items()}
    learner.table.load(
        ids, safetensors_file.read(files["identity_rows.safetensors"], f"{url}/identity_rows.safetensors", sizes)
    )
    return origin


def initialize_from(url: str, learner: Learner) -> None:
    """Load the averaged E and G, and D, of the base model that the configuration names into a new learner.

    Optimisers and rows of W keep their initial state: the model's belong to other videos.

    Raises:
        ValueError: the model at `url` is not the one that the configuration names.
    """
    model, initial = load_bundle(url), learner.config.start_from
    if initial is None or model.version != initial.version:
        raise ValueError(f"{url} is not the model that this run began with: it was altered since")
    for name, network in learner.networks().items():
        network.load_state_dict(getattr(model, name).state_dict())
    learner.embedder_ema.start_at(learner.embedder)
    learner.generator_ema.start_at(learner.generator)


def _load_optimizers(learner: Learner, data: bytes, name: str) -> None:
    if not zipfile.is_zipfile(io.BytesIO(data)):  # torch's legacy format is a bare pickle
        raise ValueError(f"{name} is refused, nothing of it was run: it is no file of ours")
    try:
        state = torch.load(io.BytesIO(data), map_location=learner.device, weights_only=True)
        learner.load_optimizer_state(state)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it names {named[1]}" if named else "it is no file of ours"
        raise ValueError(
            f"{name} is refused, nothing of it was run: only tensors and numbers belong there, {what}"
        ) from None
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        reason = one_line(error, 200)
        raise ValueError(f"{name} holds no optimisers of this architecture: {reason}") from None


def _row_ids(video_ids: Sequence[str]) -> bytes:
    sink = io.BytesIO()
    table = {"video_id": pa.array(video_ids, pa.string()), "row": pa.array(range(len(video_ids)), pa.int64())}
    pq.write_table(pa.table(table), sink)
    return sink.getvalue()


def _tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    data: bytes = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
    return data


def _torch_bytes(state: Mapping[str, Any]) -> bytes:
    sink = io.BytesIO()
    torch.save(state, sink)
    return sink.getvalue()
