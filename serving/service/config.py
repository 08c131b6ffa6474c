"""Configuration of the service: one validated dataclass that all deployments share."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pipelines import storage
from serving.service.store import Store
from training.losses.perceptual_files import PerceptualFiles

MIB = 1024 * 1024
API_KEY_VARIABLE = "SFUMATO_API_KEY"
DATABASE_VARIABLE = "SFUMATO_DATABASE"
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
    min_rate: int = 1024
    """An upload fails when it takes longer than `idle_timeout_s` and is slower than this, bytes a second."""
    max_uploads: int = 256
    """Maximum number of uploads at the same time at one front end; further ones are refused with 429."""


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
    """Polling interval of a worker; it grows to four times as much while no job waits."""
    keep_uploads_s: float | None = None
    """How long uploads are kept after their job has ended, so that it can be tried again; None: not at all."""
    keep_results_s: float | None = None
    """How long ended jobs and their videos are kept; None: until they are deleted. Avatars stay until then."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or self.max_waiting < 1:
            raise ValueError(f"max_attempts and max_waiting start at 1: got {self.max_attempts}, {self.max_waiting}")
        if not 0 < self.poll_s < self.lease_s:
            raise ValueError(f"poll_s {self.poll_s} must lie between 0 and lease_s {self.lease_s}")


@dataclass(frozen=True)
class WorkLimits:
    """Limits of the process that runs jobs; beyond them it is killed. Times in seconds."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    grace_s: float = 1.0
    """Time between asking a cancelled job to stop and killing it."""
    stall_s: float = 120.0
    """A job fails when it makes no progress for this long."""
    job_s: float = 6 * 3600.0
    """A job fails when it takes longer than this."""
    start_s: float = 300.0
    """Longest time to load the models."""

    def __post_init__(self) -> None:
        if min(self.grace_s, self.stall_s, self.job_s, self.start_s) <= 0:
            raise ValueError("the limits of work must be above 0 seconds")


@dataclass(frozen=True)
class ServiceConfig:
    """Settings that all deployments share. Plain values only: Ray sends it to other processes."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    model: str
    """Base model: a bundle's path or URL, or models:/NAME@ALIAS."""
    data_dir: str
    """Path or URL of the folder of uploads and results; other machines need a URL, or a shared folder."""
    database: str | None = None
    """URL of the jobs' database: postgresql://user@host/name or sqlite:///path; default: jobs.sqlite3 in `data_dir`."""
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
    webhook_hosts: tuple[str, ...] = ()
    """Hosts that clients may have told of ended jobs; the requests are signed with SFUMATO_WEBHOOK_SECRET."""
    require_consent: bool = False
    """Refuse pictures without a statement of consent."""
    allowed_hosts: tuple[str, ...] = ("*",)
    """Accepted values of the Host header; "*": any."""
    host: str = "127.0.0.1"
    """Address that front ends listen on."""
    port: int = 8000
    """Port that front ends listen on."""
    num_front_ends: int = 1
    """Number of processes that answer requests; those of a machine share the port."""
    num_stills: int = 1
    """Processes of each front end that draw single pictures (`POST /v1/avatars/{id}/stills`); 0: none are drawn."""
    num_finetuners: int = 1
    """Number of fine-tuning workers; with `min_workers`, the maximum."""
    num_renderers: int = 1
    """Number of rendering workers; with `min_workers`, the maximum."""
    min_workers: int | None = None
    """Least number of workers of each kind: more start while jobs wait; None: their number is fixed."""
    idle_s: float = 300.0
    """Workers beyond `min_workers` stop when no job has waited for this long, seconds."""
    drain_s: float = 30.0
    """How long a front end that stops waits for the requests that it answers, seconds."""
    cpus_per_worker: float = 1.0
    """CPUs per worker, which are also its threads."""
    num_gpus: float = 0.0
    """GPUs per worker; with a fraction, workers share one."""
    device: str = "auto"
    """Device of the workers' networks: auto (a GPU if `num_gpus` gives them one), cpu, cuda or cuda:N."""
    limits: UploadLimits = field(default_factory=UploadLimits)
    queue: QueueRules = field(default_factory=QueueRules)
    work: WorkLimits = field(default_factory=WorkLimits)

    def __post_init__(self) -> None:
        for name in ("num_front_ends", "num_finetuners", "num_renderers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1: got {getattr(self, name)}")
        if self.num_stills < 0:
            raise ValueError(f"num_stills must not be negative: got {self.num_stills}")
        if self.min_workers is not None and self.min_workers < 0:
            raise ValueError(f"min_workers must not be negative: got {self.min_workers}")
        for name in ("cpus_per_worker", "num_gpus"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name} must not be negative: got {getattr(self, name)}")
        if self.database is None and not os.environ.get(DATABASE_VARIABLE) and "://" in self.data_dir:
            raise ValueError(
                f"data in {self.data_dir} needs a database: give --database or set {DATABASE_VARIABLE}, such as"
                " postgresql://user@host/name"
            )
        PerceptualFiles.named(self.vgg19, self.vggface)  # raises unless both or neither are given

    @property
    def database_url(self) -> str:
        """URL of the database: `database`, else the variable SFUMATO_DATABASE, else a file in `data_dir`."""
        if self.database is not None:
            return self.database
        if url := os.environ.get(DATABASE_VARIABLE, ""):
            return url
        return f"sqlite:///{storage.local_path(self.data_dir).expanduser().absolute() / 'jobs.sqlite3'}"

    def store(self) -> Store:
        """Return the store of files. Raises ValueError when a file has its folder's name."""
        return Store.create(self.data_dir, self.avatars)

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


def config_json(config: ServiceConfig) -> str:
    """Return the configuration as one line of JSON, which `parse_config` reads back."""
    return TypeAdapter(ServiceConfig).dump_json(config).decode()


def read_api_key(config: ServiceConfig, *, required: bool = True) -> str | None:
    """Read the API key from its file or from SFUMATO_API_KEY; None when the service is open, or it is not required.

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
        if config.api_key_file is None and (config.open or not required):
            return None
        raise ValueError(f"no API key: {source} is empty (set {API_KEY_VARIABLE} or give --api-key-file)")
    if len(key) < _MIN_KEY_LENGTH:
        raise ValueError(f"the API key in {source} has {len(key)} characters; use at least {_MIN_KEY_LENGTH}")
    return key
