"""The JSON report beside each video: what it was made of, and the mark that it is done."""

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
class Sidecar:
    """Written after the videos it describes; while `key` fits the inputs, they need not be made again."""

    key: str
    """sha256 over everything that decides the result: hashes of the inputs, model, options."""
    generated_by: str
    files: tuple[str, ...]
    """The videos, by name, in the sidecar's folder."""
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
    """What the making took."""
    network_ms_per_frame: float | None = None
    notes: tuple[str, ...] = ()
    format: int = field(default=FORMAT)


_SIDECAR: TypeAdapter[Sidecar] = TypeAdapter(Sidecar)


def key_of(*parts: str | Sequence[str] | Mapping[str, object]) -> str:
    """sha256 of the parts, in order."""
    return hashlib.sha256(json.dumps([FORMAT, *parts], sort_keys=True, default=str).encode()).hexdigest()


def write_sidecar(url: str, sidecar: Sidecar) -> None:
    """Write it, complete or not at all."""
    storage.write_bytes(url, _SIDECAR.dump_json(sidecar, indent=2) + b"\n")


def read_sidecar(url: str) -> Sidecar | None:
    """The sidecar at `url`; None when there is none, or none of ours."""
    if not storage.exists(url):
        return None
    try:
        return _SIDECAR.validate_json(storage.read_bytes(url))
    except ValidationError:
        return None


def find_done(folder: str, name: str, key: str) -> Sidecar | None:
    """The sidecar `name`.json in `folder` if it has this key and its videos are still there."""
    sidecar = read_sidecar(storage.join(folder, f"{name}.json"))
    if sidecar is None or sidecar.key != key:
        return None
    return sidecar if all(storage.exists(storage.join(folder, file)) for file in sidecar.files) else None
