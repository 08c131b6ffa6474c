"""Configuration of the service: one validated dataclass that all deployments share."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from training.losses.perceptual_files import PerceptualFiles

MIB = 1024 * 1024
API_KEY_VARIABLE = "SFUMATO_API_KEY"
_MIN_KEY_LENGTH = 16
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class UploadLimits:
    """Limits of uploads. Sizes in bytes."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    max_body: int = 256 * MIB
    """Largest request body, counted while it streams in."""
    max_picture: int = 32 * MIB
    """Largest picture file."""
    max_pictures: int = 32
    """Maximum number of pictures of one avatar."""
    max_field: int = 16 * 1024
    """Longest text field (the consent statement)."""
    max_fields: int = 16
    """Maximum number of text fields in one form."""
    idle_timeout_s: float = 30.0
    """An upload fails when nothing arrives for this many seconds."""


@dataclass(frozen=True)
class QueueRules:
    """Limits and timing of the job queue. Times in seconds."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    max_waiting: int = 64
    """Maximum number of waiting jobs; further ones are refused with 429."""
    retry_after_s: int = 10
    """Value of the Retry-After header of such a refusal."""
    max_attempts: int = 3
    """A job fails when this many workers were lost while running it."""
    lease_s: float = 15.0
    """A job passes to another worker when its worker has not renewed the lease for this long."""
    poll_s: float = 0.25
    """Polling interval of an idle worker."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or self.max_waiting < 1:
            raise ValueError(f"max_attempts and max_waiting start at 1: got {self.max_attempts}, {self.max_waiting}")
        if not 0 < self.poll_s < self.lease_s:
            raise ValueError(f"poll_s {self.poll_s} must lie between 0 and lease_s {self.lease_s}")


@dataclass(frozen=True)
class ServiceConfig:
    """Settings that all deployments share. Plain values only: Ray sends it to other processes."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    model: str
    """Base model: a bundle's path or URL, or models:/NAME@ALIAS."""
    data_dir: str
    """Folder of the jobs table, uploads and results, on a local disk."""
    avatars: str | None = None
    """Path or URL of the avatars' folder; default: a folder in `data_dir`."""
    num_steps: int | None = None
    """Fine-tuning steps of an avatar; None: the stop rule decides, 0: feed-forward only."""
    vgg19: str | None = None
    """Path or URL of the Caffe VGG19 weights, for a base model that was trained with them; read by all workers."""
    vggface: str | None = None
    """Path or URL of the Caffe VGGFace weights, for a base model that was trained with them."""
    api_key_file: str | None = None
    """File that holds the API key. Without it, the variable SFUMATO_API_KEY."""
    open: bool = False
    """Serve without an API key (only sensible on loopback)."""
    allowed_hosts: tuple[str, ...] = ("*",)
    """Accepted values of the Host header; "*": any."""
    num_finetuners: int = 1
    num_renderers: int = 1
    num_gpus: float = 0.0
    """GPUs per worker; with a fraction, workers share one."""
    device: str = "auto"
    """Device of the workers' networks: auto (a GPU if `num_gpus` gives them one), cpu, cuda or cuda:N."""
    limits: UploadLimits = field(default_factory=UploadLimits)
    queue: QueueRules = field(default_factory=QueueRules)

    def __post_init__(self) -> None:
        for name in ("num_finetuners", "num_renderers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1: got {getattr(self, name)}")
        if "://" in self.data_dir:
            raise ValueError(f"data_dir must be a local folder (it holds the jobs table): got {self.data_dir}")
        PerceptualFiles.named(self.vgg19, self.vggface)  # raises unless both or neither are given

    @property
    def perceptual_files(self) -> PerceptualFiles | None:
        """VGG19 and VGGFace, or None."""
        return PerceptualFiles.named(self.vgg19, self.vggface)


def parse_config(values: object) -> ServiceConfig:
    """Make a ServiceConfig of a Serve config file's `args`. Raises ValueError for unknown keys and invalid values."""
    adapter: TypeAdapter[ServiceConfig] = TypeAdapter(ServiceConfig)
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"service configuration, {where or 'arguments'}: {first['msg']}") from error


def read_api_key(config: ServiceConfig) -> str | None:
    """Read the API key from its file or from SFUMATO_API_KEY; None when the service is open.

    Each process that needs the key reads it, so that it never passes through Ray.

    Raises:
        FileNotFoundError: the key file is missing.
        ValueError: a required key is missing, or the key is too short.
    """
    if config.api_key_file is not None:
        key = Path(config.api_key_file).read_text(encoding="utf-8").strip()
        source = config.api_key_file
    else:
        key, source = os.environ.get(API_KEY_VARIABLE, "").strip(), API_KEY_VARIABLE
    if not key:
        if config.open and config.api_key_file is None:
            return None
        raise ValueError(f"no API key: {source} is empty (set {API_KEY_VARIABLE} or give --api-key-file)")
    if len(key) < _MIN_KEY_LENGTH:
        raise ValueError(f"the API key in {source} has {len(key)} characters; use at least {_MIN_KEY_LENGTH}")
    return key
