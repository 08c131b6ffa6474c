"""The manifest of a data set: its shards, config, source and licence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pipelines import storage
from pipelines.dataset import schema
from pipelines.dataset.paths import ShardPaths, layout_of, shard_paths
from pipelines.dataset.schema import SCHEMA_VERSION
from pipelines.faces.crop import CropRule

MANIFEST = "dataset.json"


@dataclass(frozen=True)
class ShardEntry:
    """One shard in the manifest."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    split: str
    shard: int
    num_clips: int
    num_frames: int
    num_bytes: int
    sha256: str
    index_sha256: str
    rejects_sha256: str
    """Hash of the shard's file in `rejects/`; "" if it rejected nothing."""


@dataclass(frozen=True)
class DatasetManifest:
    """dataset.json. It is written last: it exists if and only if the data set is complete.

    `config` holds the sections "clip" and "plan", and "weights", the sha256 of each pretrained file.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    schema_version: int
    code_version: str
    config: Mapping[str, Any]
    config_sha256: str
    plan_sha256: str
    source: str
    licence: str
    counts: Mapping[str, int]
    codes: Mapping[str, int]
    shards: tuple[ShardEntry, ...]
    episode_k_max: int
    """The largest number of shots K for which every clip has the K + 1 frames of an episode."""
    stage_seconds: Mapping[str, float]

    @property
    def digest(self) -> str:
        """sha256 of the manifest without its timings; equal data sets have equal digests."""
        return schema.digest_of({**_plain(self), "stage_seconds": None})

    @property
    def size(self) -> int:
        """Side of the crops in pixels."""
        return int(self.config["clip"]["size"])

    @property
    def frames_per_clip(self) -> int:
        """Frames kept per clip, at most."""
        return int(self.config["clip"]["frames_per_clip"])

    @property
    def detector(self) -> str:
        """Name of the landmark detector."""
        return str(self.config["clip"]["detector"])

    @property
    def layout(self) -> str:
        """How the files are laid out: see `pipelines.dataset.paths`."""
        return layout_of(self.config)

    def paths(self, entry: ShardEntry) -> ShardPaths:
        """Return the paths of a shard's files, relative to the root."""
        return shard_paths(entry.split, entry.shard, self.layout)

    @property
    def crop_rule(self) -> CropRule:
        """The rule by which the crops were cut."""
        return CropRule(**self.config["clip"]["crop"])

    def to_json(self) -> str:
        """Return indented JSON with sorted keys."""
        return json.dumps(_plain(self), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


_ADAPTER = TypeAdapter(DatasetManifest)


def _plain(manifest: DatasetManifest) -> dict[str, Any]:
    plain: dict[str, Any] = _ADAPTER.dump_python(manifest, mode="json")
    return plain


def read_manifest(root: str) -> DatasetManifest:
    """Read dataset.json. Raises ValueError when it is missing, broken, or of another schema version."""
    url = storage.join(root, MANIFEST)
    try:
        text = storage.read_bytes(url)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"{root} is no data set, or preprocessing has not finished: it has no {MANIFEST}") from error
    try:
        version = json.loads(text)["schema_version"]
        if version != SCHEMA_VERSION:
            raise ValueError(f"{url} has schema version {version}; this code reads {SCHEMA_VERSION}")
        return _ADAPTER.validate_json(text)
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{url} is not a data set manifest: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{url}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
