"""`sfumato serve`: the HTTP service on Ray Serve."""

from __future__ import annotations

import ipaddress
import logging
import os
import shlex
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import tyro

from pipelines import cli
from serving.app import LOOPBACK_HOSTS, OBJECT_STORE_BYTES, REQUEST_TIMEOUT_S, build_application
from serving.service.config import API_KEY_VARIABLE, ServiceConfig, read_api_key
from training.checkpoints.shipped import named_or_shipped


@dataclass(frozen=True)
class Options:
    """Run the HTTP service: pictures -> avatar, avatar + driver -> video. Ctrl-C stops it."""

    model: str | None = None
    """Base model: a bundle's path or URL, or models:/sfumato-base@champion; default: the bundled one."""
    data_dir: str = "sfumato-data"
    """Folder of the jobs table, uploads and results; waiting jobs continue after a restart."""
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
    ray_address: Annotated[str | None, tyro.conf.arg(name="ray-address")] = None
    """Address of a running Ray cluster ("auto" for the one on this machine); default: start a private local one."""


def to_config(options: Options) -> ServiceConfig:
    """Return the deployments' configuration. Paths become absolute, because replicas have other working folders.

    Raises:
        FileNotFoundError: the API key file does not exist.
        ValueError: listening beyond loopback without an API key.
    """
    loopback = _is_loopback(options.host)
    keyless = options.api_key_file is None and not os.environ.get(API_KEY_VARIABLE, "").strip()
    if keyless and not loopback:
        raise ValueError(f"listening on {options.host} needs an API key: give --api-key-file or set {API_KEY_VARIABLE}")
    config = ServiceConfig(
        model=_absolute(named_or_shipped(options.model)),
        data_dir=_absolute(options.data_dir),
        avatars=_absolute_or_none(options.avatars),
        num_steps=options.num_steps,
        vgg19=_absolute_or_none(options.vgg19),
        vggface=_absolute_or_none(options.vggface),
        api_key_file=_absolute_or_none(options.api_key_file),
        open=keyless,
        allowed_hosts=LOOPBACK_HOSTS if loopback else ("*",),
        num_finetuners=options.num_finetuners,
        num_renderers=options.num_renderers,
        num_gpus=options.num_gpus,
        device=options.device,
    )
    read_api_key(config)  # report a missing or empty key here, not in a replica's log
    return config


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
        ValueError: the model is broken, the weights that it was trained with are not given, the port is in use, or the
            options contradict each other.
    """
    from training.checkpoints.bundle import load_bundle
    from training.checkpoints.model_registry import resolve
    from training.losses.perceptual import load_perceptual

    config = to_config(options)
    model = resolve(config.model)
    _require_free_port(options.host, options.port)
    # Report a broken model and missing perceptual weights here, not in a job.
    trained = load_bundle(model).config
    if trained.perceptual == "vgg19_vggface" and config.num_steps != 0:
        load_perceptual(trained, config.perceptual_files)
    cli.console().print("starting Ray Serve ...")
    # Ray reads these variables when it is imported.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    import ray
    from ray import serve

    logging.getLogger("ray.serve").addFilter(lambda record: record.levelno >= logging.WARNING)
    application = build_application(config)
    _start_ray(options)
    try:
        serve.start(
            http_options={"host": options.host, "port": options.port, "request_timeout_s": REQUEST_TIMEOUT_S},
            logging_config={"log_level": "WARNING", "enable_access_log": False},
        )
        serve.run(application, name="sfumato")
        host = f"[{options.host}]" if ":" in options.host else options.host
        yield f"http://{host}:{options.port}"
    finally:
        # Deleting the application puts running jobs back into the queue. serve.shutdown would take seconds longer and
        # log errors about the controller that it stops itself; ray.shutdown stops everything.
        serve.delete("sfumato")
        ray.shutdown()


def _start_ray(options: Options) -> None:
    import ray

    if options.ray_address is not None:
        ray.init(options.ray_address, log_to_driver=False, logging_level=logging.WARNING)
        return
    ray.init(
        "local",  # do not join another cluster on this machine
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",  # keep Ray's own ports on loopback, whatever `host` is
    )


def _require_free_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ValueError(f"cannot listen on {host}:{port}: {error.strerror}") from error


def run(options: Options) -> cli.CommandResult:
    """Serve until Ctrl-C or SIGTERM, then shut down cleanly and raise KeyboardInterrupt (exit code 130)."""
    screen = cli.console()
    with running(options) as url:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # after Ray has installed its own handler
        screen.print(_welcome(url, options), markup=False)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            screen.print("stopping; waiting jobs continue at the next start")
            raise
    raise AssertionError("unreachable: only an interrupt ends the wait")


def _welcome(url: str, options: Options) -> str:
    keyless = options.api_key_file is None and not os.environ.get(API_KEY_VARIABLE)
    key = "" if keyless else f' -H "Authorization: Bearer ${API_KEY_VARIABLE}"'
    return "\n".join(
        [
            f"listening on {url}  (data in {shlex.quote(options.data_dir)})",
            "",
            f"  curl{key} -F pictures=@portrait.jpg {url}/v1/avatars            # -> job, avatar_id",
            f"  curl{key} {url}/v1/jobs/JOB                                     # -> state, progress",
            f"  curl{key} -F driver=@driver.mp4 {url}/v1/avatars/AVATAR/videos  # -> job",
            f"  curl{key} -o video.mp4 {url}/v1/jobs/JOB/result",
            "",
            "Ctrl-C stops it.",
        ]
    )
