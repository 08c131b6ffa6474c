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
    """Serve portraits over HTTP: pictures -> avatar, avatar + driver -> video. Ctrl-C ends it."""

    model: str | None = None
    """Base model: a bundle's path or URL, or models:/sfumato-base@champion; default: the one that comes along."""
    data_dir: str = "sfumato-data"
    """Folder of the jobs table, uploads and results; jobs that were waiting go on after a restart."""
    avatars: str | None = None
    """Path or URL where avatars are kept; default: a folder in the data folder."""
    host: str = "127.0.0.1"
    """Address to listen on; any but loopback needs an API key."""
    port: int = 8000
    """Port to listen on."""
    api_key_file: str | None = None
    """File with the API key that clients send as `Authorization: Bearer KEY`; else the variable SFUMATO_API_KEY."""
    num_finetuners: int = 1
    """Avatars made at the same time."""
    num_renderers: int = 1
    """Videos rendered at the same time."""
    num_gpus: float = 0.0
    """GPUs of each of them; a fraction shares one."""
    num_steps: int | None = None
    """Fine-tuning steps of an avatar; 0 for feed-forward only; default: the stop rule decides."""
    vgg19: str | None = None
    """Weights of Caffe's VGG19, a path or URL, for a base model that was trained with them."""
    vggface: str | None = None
    """Weights of Caffe's VGGFace, likewise."""
    ray_address: Annotated[str | None, tyro.conf.arg(name="ray-address")] = None
    """A running Ray cluster to serve on ("auto" for the one of this machine); default: a private local one."""


def to_config(options: Options) -> ServiceConfig:
    """The deployments' configuration. Paths become absolute: replicas run in folders of their own.

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
        avatars=_absolute_if_any(options.avatars),
        num_steps=options.num_steps,
        vgg19=_absolute_if_any(options.vgg19),
        vggface=_absolute_if_any(options.vggface),
        api_key_file=_absolute_if_any(options.api_key_file),
        open=keyless,
        allowed_hosts=LOOPBACK_HOSTS if loopback else ("*",),
        num_finetuners=options.num_finetuners,
        num_renderers=options.num_renderers,
        num_gpus=options.num_gpus,
    )
    read_api_key(config)  # a missing or empty key is said here, not in a replica's log
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


def _absolute_if_any(path: str | None) -> str | None:
    return None if path is None else _absolute(path)


@contextmanager
def running(options: Options) -> Iterator[str]:
    """The service while the block lasts; yields its base URL.

    Raises:
        FileNotFoundError: the model, the key file or weights that are named do not exist.
        ValueError: the model is broken, weights that it was trained with are not named, the port is taken, the options
            contradict each other.
    """
    from training.checkpoints.bundle import load_bundle
    from training.checkpoints.model_registry import resolve
    from training.losses.perceptual import load_perceptual

    config = to_config(options)
    model = resolve(config.model)
    _require_free_port(options.host, options.port)
    # A broken model, and weights that fine-tuning needs and that no registry carries, are said here, not in a job.
    trained = load_bundle(model).config
    if trained.perceptual == "vgg19_vggface" and config.num_steps != 0:
        load_perceptual(trained, config.perceptual_files)
    cli.console().print("starting Ray Serve ...")
    # Set before Ray is imported: it reads them then.
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
        # Only the application ends in good order, which puts running jobs back into the queue; Ray goes as a whole.
        # (serve.shutdown would take seconds more and complain about the controller that it killed itself.)
        serve.delete("sfumato")
        ray.shutdown()


def _start_ray(options: Options) -> None:
    import ray

    if options.ray_address is not None:
        ray.init(address=options.ray_address, log_to_driver=False, logging_level=logging.WARNING)
        return
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",  # Ray's own ports stay on loopback, whatever the HTTP port listens on
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
    """Serve until Ctrl-C or SIGTERM, which end it by KeyboardInterrupt after a clean shutdown (exit code 130)."""
    screen = cli.console()
    with running(options) as url:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # now: Ray has set its own at its start
        screen.print(_welcome(url, options), markup=False)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            screen.print("stopping; waiting jobs go on at the next start")
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
            "Ctrl-C ends it.",
        ]
    )
