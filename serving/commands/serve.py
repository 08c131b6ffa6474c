"""`sfumato serve`: the HTTP service, on this machine or on a Ray cluster."""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import psutil
import tyro

from pipelines import cli
from pipelines.machine import available_cpus
from pipelines.provenance.signing_key import load_signing_key
from serving.app import LOOPBACK_HOSTS
from serving.local_service import local_service
from serving.service.config import API_KEY_VARIABLE, QueueRules, ServiceConfig, read_api_key
from serving.service.state.database import Database
from serving.service.state.keys import ApiKeys
from serving.service.webhooks import read_secret
from training.checkpoints.shipped import named_or_shipped

_DRAIN_S = 3.0  # Ctrl-C ends a service on one machine soon


@dataclass(frozen=True)
class Options:
    """Run the HTTP service: pictures -> avatar, avatar + driver -> video. Ctrl-C stops it. To make API keys, see
    `sfumato serve keys`."""

    model: str | None = None
    """Base model: a bundle's path or URL, or models:/sfumato-base@champion; default: the bundled one."""
    data_dir: str = "sfumato-data"
    """Folder (path or URL) of the jobs' database, uploads and results; waiting jobs continue after a restart."""
    database: str | None = None
    """URL of the jobs' database, such as postgresql://user@host/name; default: the variable SFUMATO_DATABASE, else a
    file in the data folder."""
    avatars: str | None = None
    """Path or URL of the avatars' folder; default: a folder in the data folder."""
    host: str = "127.0.0.1"
    """Address to listen on; an address other than loopback needs an API key."""
    port: int = 8000
    """Port to listen on."""
    api_key_file: str | None = None
    """File with the API key that clients send as `Authorization: Bearer KEY`; default: the variable SFUMATO_API_KEY."""
    num_finetuners: int = 1
    """Number of fine-tuning workers."""
    num_renderers: int = 1
    """Number of rendering workers."""
    min_workers: int | None = None
    """Start with this number of workers of each kind, 0 for none, and more while jobs wait; default: start all."""
    num_stills: int = 1
    """Processes of each front end that draw single pictures, for the sliders of the page; 0: none are drawn."""
    num_front_ends: int = 1
    """Number of processes that answer requests."""
    cpus_per_worker: float | None = None
    """CPUs and threads of each worker; default: this machine's, shared by the renderers."""
    num_gpus: float = 0.0
    """GPUs per worker; with a fraction, workers share one."""
    device: str = "auto"
    """Device of the workers' networks: auto (a GPU if --num-gpus gives them one), cpu, cuda or cuda:N."""
    num_steps: int | None = None
    """Fine-tuning steps per avatar; 0 for feed-forward only; default: the stop rule decides."""
    vgg19: str | None = None
    """Path or URL of the Caffe VGG19 weights, for a base model that was trained with them."""
    vggface: str | None = None
    """Path or URL of the Caffe VGGFace weights, for a base model that was trained with them."""
    keep_uploads: str | None = None
    """How long uploads are kept after their job has ended, such as 12h or 7d, so that it can be tried again; default:
    not at all."""
    keep_results: str | None = None
    """How long ended jobs and their videos are kept, such as 12h or 7d; default: until they are deleted."""
    webhook_host: Annotated[tuple[str, ...], tyro.conf.arg(metavar="HOST ...")] = ()
    """Hosts that clients may have told of ended jobs (webhooks), signed with the variable SFUMATO_WEBHOOK_SECRET."""
    require_consent: bool = False
    """Refuse pictures that are sent without a statement of consent."""
    ray_address: Annotated[str | None, tyro.conf.arg(name="ray-address")] = None
    """Address of a running Ray cluster ("auto" for the one on this machine) whose machines do the work; default: this
    machine alone, without Ray."""


def to_config(options: Options) -> ServiceConfig:
    """Return the deployments' configuration. Paths become absolute, because replicas have other working folders.

    Raises:
        FileNotFoundError: the API key file does not exist.
        ValueError: listening beyond loopback without an API key.
    """
    loopback = _is_loopback(options.host)
    keyless = options.api_key_file is None and not os.environ.get(API_KEY_VARIABLE, "").strip()
    config = ServiceConfig(
        model=_absolute(named_or_shipped(options.model)),
        data_dir=_absolute(options.data_dir),
        avatars=_absolute_or_none(options.avatars),
        database=options.database,
        num_steps=options.num_steps,
        vgg19=_absolute_or_none(options.vgg19),
        vggface=_absolute_or_none(options.vggface),
        api_key_file=_absolute_or_none(options.api_key_file),
        open=keyless and loopback,
        require_consent=options.require_consent,
        webhook_hosts=options.webhook_host,
        host=options.host,
        port=options.port,
        drain_s=_DRAIN_S if options.ray_address is None else ServiceConfig.drain_s,
        allowed_hosts=LOOPBACK_HOSTS if loopback else ("*",),
        num_finetuners=options.num_finetuners,
        num_renderers=options.num_renderers,
        min_workers=options.min_workers,
        num_front_ends=options.num_front_ends,
        num_stills=options.num_stills,
        cpus_per_worker=options.cpus_per_worker or max(1.0, float(available_cpus() // max(1, options.num_renderers))),
        queue=QueueRules(
            keep_uploads_s=_seconds("--keep-uploads", options.keep_uploads),
            keep_results_s=_seconds("--keep-results", options.keep_results),
        ),
        num_gpus=options.num_gpus,
        device=options.device,
    )
    return config


def require_key(config: ServiceConfig) -> None:
    """Report a missing key here, not in a front end's log.

    Raises:
        FileNotFoundError: the API key file does not exist.
        ValueError: listening beyond loopback without an API key.
    """
    has_keys = ApiKeys(Database(config.database_url)).any()
    if read_api_key(config, required=False) is None and not config.open and not has_keys:
        raise ValueError(
            f"listening on {config.host} needs an API key: give --api-key-file, set {API_KEY_VARIABLE}, or make one"
            " with sfumato serve keys add"
        )


_UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0}


def _seconds(flag: str, text: str | None) -> float | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", text.strip())
    if match is None:
        raise ValueError(f"{flag} is a number with m, h or d for minutes, hours or days, such as 12h: got {text}")
    return float(match[1]) * _UNITS[match[2]]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _absolute(path: str) -> str:
    return path if "://" in path or path.startswith("models:/") else os.path.abspath(os.path.expanduser(path))  # noqa: PTH100,PTH111


def _absolute_or_none(path: str | None) -> str | None:
    return None if path is None else _absolute(path)


@contextmanager
def running(options: Options) -> Iterator[str]:
    """Run the service while the block lasts; yield its base URL.

    Raises:
        FileNotFoundError: the model, the key file or a weights file does not exist.
        ValueError: the model is broken, the weights that it was trained with are not given, the port is in use, there
            is not enough of something, the options contradict each other, or key or certificate for the credentials
            cannot be used.
    """
    from training.checkpoints.model_registry import resolve

    config = to_config(options)
    model = resolve(config.model)
    _require_free_port(options.host, options.port)
    config.store()
    read_secret(config.webhook_hosts)
    require_key(config)
    load_signing_key()
    host = f"[{options.host}]" if ":" in options.host else options.host
    with _started(config, options.ray_address, partial(_check_model, config, model)):
        yield f"http://{host}:{options.port}"


def _started(
    config: ServiceConfig, ray_address: str | None, check: Callable[[], None]
) -> AbstractContextManager[object]:
    if ray_address is None:
        return local_service(config, check)
    from serving.deploy import deployed

    check()
    return deployed(config, ray_address)


def _check_model(config: ServiceConfig, model: str) -> None:
    """Report a broken model and missing perceptual weights at the start, not in a job."""
    from training.checkpoints.bundle import load_bundle
    from training.losses.perceptual import load_perceptual

    trained = load_bundle(model).config
    if trained.perceptual == "vgg19_vggface" and config.num_steps != 0:
        load_perceptual(trained, config.perceptual_files)


def run(options: Options) -> cli.CommandResult:
    """Serve until Ctrl-C or SIGTERM, then shut down cleanly and raise KeyboardInterrupt (exit code 130).

    Raises:
        ClusterLost: the head of the Ray cluster is gone.
    """
    screen = cli.console()
    started = time.monotonic()
    with running(options) as url:
        screen.print(_welcome(url, options, time.monotonic() - started), markup=False)
        for note in load_signing_key().notes:
            cli.warn(f"videos are {note}")
        try:
            _wait(options.ray_address)
        except KeyboardInterrupt:
            screen.print("stopping; waiting jobs continue at the next start")
            raise
    raise AssertionError("unreachable: only an interrupt or an error ends the wait")


def _wait(ray_address: str | None) -> None:
    if ray_address is None:
        threading.Event().wait()
    from serving.deploy import wait_while_cluster_answers

    wait_while_cluster_answers()


def memory_bytes() -> int:
    """Return the memory of this process and all its children, shared pages counted once."""
    total = 0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total


def _require_free_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ValueError(f"cannot listen on {host}:{port}: {error.strerror}") from error


def _welcome(url: str, options: Options, seconds: float) -> str:
    keyless = options.api_key_file is None and not os.environ.get(API_KEY_VARIABLE)
    key = "" if keyless else f' -H "Authorization: Bearer ${API_KEY_VARIABLE}"'
    used = f"{memory_bytes() / 2**20:.0f} MiB"
    return "\n".join(
        [
            f"listening on {url} after {seconds:.1f} s, {used}  (data in {shlex.quote(options.data_dir)})",
            "",
            f"Open {url} in a browser, or use another program:",
            "",
            f"  curl{key} -F pictures=@portrait.jpg {url}/v1/avatars            # -> job, avatar_id",
            f"  curl{key} {url}/v1/jobs/JOB                                     # -> state, progress",
            f"  curl{key} -F driver=@driver.mp4 {url}/v1/avatars/AVATAR/videos  # -> job",
            f"  curl{key} -o video.mp4 {url}/v1/jobs/JOB/result",
            "",
            "Ctrl-C stops it.",
        ]
    )
