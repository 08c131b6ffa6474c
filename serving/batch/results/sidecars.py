"""The JSON sidecar of each video: its inputs and options. Its presence marks the video as complete."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipelines import storage

FORMAT = 1


@dataclass(frozen=True)
class SidecarSource:
    """One input of a video."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Quality:
    """How good a video is."""

    csim: float | None
    """Likeness of a few frames to the portrait: the cosine of SFace's embeddings; None where it was not measured."""
    bent_share: float
    """Share of the driver's frames whose turns the limits bend."""
    missing_share: float
    """Share of the driver's frames without the face."""


@dataclass(frozen=True)
class Sidecar:
    """Describes finished videos. While `key` matches the inputs, they are not rendered again."""

    key: str
    """sha256 of everything that decides the result: hashes of the inputs, model version, options."""
    generated_by: str
    files: tuple[str, ...]
    """File names of the videos, in the sidecar's folder."""
    sources: tuple[SidecarSource, ...]
    drivers: tuple[SidecarSource, ...]
    model: str
    """Version of the base model."""
    options: Mapping[str, Any]
    frames: int
    fps: str
    """As a fraction, 30000/1001."""
    width: int
    height: int
    has_audio: bool
    seconds: float
    """Time that rendering took."""
    network_ms_per_frame: float | None = None
    portraits_used: Mapping[str, float] | None = None
    """Name of each picture that frames start from, and its share of the frames."""
    openings_used: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The same of "lips" and "eyes", where they come from other pictures than the head."""
    notes: tuple[str, ...] = ()
    quality: Quality | None = None
    """None for mosaics, and videos that were made before it was measured."""
    format: int = field(default=FORMAT)


_SIDECAR: TypeAdapter[Sidecar] = TypeAdapter(Sidecar)


def cache_key(*parts: str | Sequence[str] | Mapping[str, object]) -> str:
    """Return the sha256 of the parts, in order, and the sidecar format."""
    return hashlib.sha256(json.dumps([FORMAT, *parts], sort_keys=True, default=str).encode()).hexdigest()


def write_sidecar(url: str, sidecar: Sidecar) -> None:
    """Write a sidecar atomically."""
    storage.write_bytes(url, _SIDECAR.dump_json(sidecar, indent=2) + b"\n")


def read_sidecar(url: str) -> Sidecar | None:
    """Read the sidecar at `url`; None when there is no file or it is not a sidecar."""
    if not storage.exists(url):
        return None
    try:
        return _SIDECAR.validate_json(storage.read_bytes(url))
    except ValidationError:
        return None


def is_complete(folder: str, sidecar: Sidecar) -> bool:
    """Whether all videos of a sidecar in `folder` exist."""
    return all(storage.exists(storage.join(folder, file)) for file in sidecar.files)
