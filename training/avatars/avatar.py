"""Avatars: one person's fine-tuned generator and the pictures it was made from; reading and writing."""

import hashlib
import io
import json
from dataclasses import asdict, dataclass, field

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float, UInt8
from PIL import Image, UnidentifiedImageError
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from pipelines.faces.head_pose import find_neutral_frame
from training.avatars.portraits import Portrait
from training.checkpoints.bundle import MANIFEST, load_weights, read_with_manifest, write_with_manifest
from training.checkpoints.model_lineage import ModelLineage, known_lineage
from training.config import ModelConfig
from training.models.generator import Generator

SCHEMA_VERSION = 1
_WEIGHTS = "generator.safetensors"
_ADAIN = "adain_values"


@dataclass(frozen=True)
class Avatar:
    """psi and psi' of one person (section 3.3), and the portraits that are warped."""

    config: ModelConfig
    generator: Generator
    adain_values: Float[Tensor, "1 values"]
    portraits: tuple[Portrait, ...]
    steps: int
    """Fine-tuning updates; 0 is feed-forward."""
    base_version: str
    """Version of the base model bundle (sha256 of its manifest)."""
    lineage: ModelLineage = field(default_factory=ModelLineage)
    """Of the base model."""
    consent_sha256: str | None = None
    """sha256 of the stored consent statement; None: there is none, or the avatar has not been stored."""

    @property
    def canvas_index(self) -> int:
        """Index of the portrait whose body and background are shown, and whose expression is the one at rest."""
        return find_neutral_frame(np.stack([portrait.landmarks for portrait in self.portraits]))

    @property
    def canvas(self) -> Portrait:
        """The portrait whose body and background are shown."""
        return self.portraits[self.canvas_index]


@dataclass(frozen=True)
class _PortraitEntry:
    """A portrait in the avatar's manifest."""

    name: str
    sha256: str
    landmarks: list[tuple[float, float]]
    gaze: tuple[tuple[float, float], tuple[float, float]] | None = None
    """None if the detector finds no irises, and in avatars whose manifest does not record it."""

    @classmethod
    def of(cls, portrait: Portrait) -> "_PortraitEntry":
        gaze = None
        if portrait.gaze is not None:
            right, left = _pairs(portrait.gaze)
            gaze = right, left
        return cls(portrait.name, portrait.sha256, _pairs(portrait.landmarks), gaze)

    def portrait(self, image: UInt8[np.ndarray, "height width 3"]) -> Portrait:
        gaze = None if self.gaze is None else np.array(self.gaze, np.float32)
        return Portrait(image, np.array(self.landmarks, np.float32), self.name, self.sha256, gaze)


@dataclass(frozen=True)
class _Manifest:
    """The avatar's manifest, without the hashes of files."""

    schema_version: int
    config: ModelConfig
    steps: int
    base_version: str
    portraits: list[_PortraitEntry]
    consent: str | None
    lineage: ModelLineage | None = None
    """None in avatars that were made before it was recorded."""


def save_avatar(avatar: Avatar, url: str, consent: str | None) -> None:
    """Write an avatar's files to the folder `url`, the manifest last.

    Args:
        consent: statement of the person shown or of the owner of the rights; stored in the manifest.
    """
    weights = avatar.generator.state_dict() | {_ADAIN: avatar.adain_values}
    files = {_WEIGHTS: safetensors.torch.save({name: _smallest(value) for name, value in weights.items()})}
    for number, portrait in enumerate(avatar.portraits):
        sink = io.BytesIO()
        Image.fromarray(portrait.image).save(sink, "PNG", compress_level=3)
        files[f"portrait-{number}.png"] = sink.getvalue()
    manifest = _Manifest(
        schema_version=SCHEMA_VERSION,
        config=avatar.config,
        steps=avatar.steps,
        base_version=avatar.base_version,
        portraits=[_PortraitEntry.of(portrait) for portrait in avatar.portraits],
        consent=consent,
        lineage=avatar.lineage,
    )
    write_with_manifest(url, files, **asdict(manifest))


def load_avatar(url: str) -> Avatar:
    """Read an avatar.

    Raises:
        FileNotFoundError: there is nothing at `url`.
        ValueError: it is no avatar, or a file is damaged.
    """
    files = read_with_manifest(url)
    try:
        raw = json.loads(files[MANIFEST])
        manifest = TypeAdapter(_Manifest).validate_python({name: raw[name] for name in raw if name != "sha256"})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ValueError(f"{url}/{MANIFEST} is no avatar's: {field}: {first['msg']}") from None
    if manifest.schema_version != SCHEMA_VERSION:
        raise ValueError(f"{url} has avatar schema {manifest.schema_version}, this version reads {SCHEMA_VERSION}")
    pictures = [f"portrait-{number}.png" for number in range(len(manifest.portraits))]
    for name in (_WEIGHTS, *pictures):
        if name not in files:
            raise ValueError(f"{url}/{MANIFEST} names no {name}")
    generator = Generator(manifest.config)
    try:
        weights = safetensors.torch.load(files[_WEIGHTS])
    except SafetensorError as error:
        raise ValueError(f"{url}/{_WEIGHTS} is no safetensors file: {error}") from None
    if _ADAIN not in weights:
        raise ValueError(f"{url}/{_WEIGHTS} holds no {_ADAIN}: it is no avatar's")
    adain_values = weights.pop(_ADAIN).float()
    load_weights(generator, safetensors.torch.save(weights), f"{url}/{_WEIGHTS}")
    portraits = tuple(
        entry.portrait(_read_png(files[name], f"{url}/{name}"))
        for name, entry in zip(pictures, manifest.portraits, strict=True)
    )
    generator.eval().requires_grad_(False)
    return Avatar(
        manifest.config,
        generator,
        adain_values,
        portraits,
        manifest.steps,
        manifest.base_version,
        manifest.lineage or known_lineage(manifest.base_version),
        None if manifest.consent is None else hashlib.sha256(manifest.consent.encode()).hexdigest(),
    )


def _smallest(weights: Tensor) -> Tensor:
    """Return weights in half precision where that changes none of them, as those of an exported base model."""
    half = weights.half() if weights.dtype == torch.float32 else weights
    return (half if torch.equal(half.float(), weights.float()) else weights).contiguous()


def _pairs(points: Float[np.ndarray, "points 2"]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in points]


def _read_png(data: bytes, name: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            return np.asarray(picture.convert("RGB"))
    except UnidentifiedImageError:
        raise ValueError(f"{name} is no PNG") from None
