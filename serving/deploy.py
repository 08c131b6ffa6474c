"""Run the service as one application of Ray Serve, on the machines of a Ray cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

from pipelines import cli
from serving.app import FRONT_END_CPUS, build_application
from serving.service.config import ServiceConfig
from training.ray_cluster import join_cluster

_APPLICATION = "sfumato"
_PLACED_S = 25.0  # a start that takes longer without being placed is explained
_STARTED_S = 300.0
_STOPPED_S = 6.0
_WATCH_S = 2.0
_LOST_S = 10.0  # a head that does not answer for this long is gone


class ClusterLost(OSError):
    """The head of the Ray cluster is gone, and with it all processes of the service."""


@contextlib.contextmanager
def deployed(config: ServiceConfig, ray_address: str) -> Iterator[None]:
    """Run the service's application on a Ray cluster while the block lasts.

    Raises:
        ValueError: the workers cannot be placed, or do not start; the message says why.
        KeyboardInterrupt: SIGTERM or SIGINT; the application is deleted.
    """
    cli.console().print("starting Ray Serve ...")
    # Ray reads these variables when it is imported.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    interrupted = threading.Event()
    _interrupt_on_sigterm(interrupted)
    try:
        import ray
        from ray import serve

        join_cluster(ray_address, logging_level=logging.WARNING)
        logging.getLogger("ray.serve").addFilter(lambda record: record.levelno >= logging.WARNING)
        _interrupt_on_sigterm(interrupted)  # Ray has installed a handler of its own
        wait_for_resources(config, ray.cluster_resources)
        serve.start(proxy_location="Disabled", logging_config={"log_level": "WARNING", "enable_access_log": False})
        _run(config)
        yield
    except BaseException as error:
        # While Ray starts, its own handler raises SystemExit, and its code may turn our interrupt into other errors.
        if interrupted.is_set() or isinstance(error, SystemExit):
            raise KeyboardInterrupt from error
        raise
    finally:
        _stop()


def wait_while_cluster_answers() -> None:
    """Wait for as long as the head of the cluster answers. Raises ClusterLost.

    Without a Redis of its own, Ray's control service (GCS) forgets everything when it dies: its machines end their
    processes. Ray would end this one, too, after a minute and in its own words.
    """
    import ray

    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    answered = time.monotonic()
    while time.monotonic() < answered + _LOST_S:
        time.sleep(_WATCH_S)
        with contextlib.suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), _WATCH_S):
            answered = time.monotonic()
    raise ClusterLost(
        f"the head of the Ray cluster at {host}:{port} is gone: start the cluster, then this command again; jobs go on"
    )


def _interrupt_on_sigterm(interrupted: threading.Event) -> None:
    """Raise KeyboardInterrupt, and note it, at SIGTERM."""

    def interrupt(_number: int, _frame: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)


def _num_workers(config: ServiceConfig) -> int:
    """Return how many workers must be placed for the service to be up."""
    if config.min_workers is None:
        return config.num_finetuners + config.num_renderers
    return min(config.min_workers, config.num_finetuners) + min(config.min_workers, config.num_renderers)


def _needed(config: ServiceConfig) -> dict[str, float]:
    """Return what Ray's scheduler must find for the service to be up."""
    workers = _num_workers(config)
    cpus = config.cpus_per_worker * workers + FRONT_END_CPUS * config.num_front_ends
    return {"GPU": config.num_gpus * workers, "CPU": cpus}


def is_placed(config: ServiceConfig, there: dict[str, float], free: dict[str, float]) -> bool:
    """Whether all parts of the service have their resources, even if their processes have not started yet.

    Serve says of both that they "have taken long to be scheduled".

    Args:
        there, free: resources of the whole cluster, and those that nobody has taken.
    """
    taken = {name: there.get(name, 0.0) - free.get(name, 0.0) for name in ("CPU", "GPU")}
    return all(taken[name] >= amount - 1e-6 for name, amount in _needed(config).items())


def wait_for_resources(
    config: ServiceConfig, cluster: Callable[[], dict[str, float]], seconds: float = _PLACED_S
) -> None:
    """Wait until the cluster's machines are there; raise ValueError when the workers can never be placed."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return _check_resources(config, cluster())
        except ValueError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def _check_resources(config: ServiceConfig, there: dict[str, float]) -> None:
    """Raise ValueError when the workers can never be placed."""
    workers = _num_workers(config)
    for name, amount in _needed(config).items():
        if amount > there.get(name, 0.0) + 1e-6:
            flag = "--num-gpus" if name == "GPU" else "--cpus-per-worker"
            raise ValueError(
                f"{workers} workers need {amount:g} {name}s, there are {there.get(name, 0.0):g}: give a smaller {flag}"
                " or fewer workers"
            )


def _run(config: ServiceConfig) -> None:
    """Deploy the application and wait until it runs."""
    from ray import serve

    failed: list[BaseException] = []

    def deploy() -> None:
        try:
            serve.run(build_application(config), name=_APPLICATION, route_prefix=None)
        except Exception as error:  # noqa: BLE001 - raised below, in the thread that may be interrupted
            failed.append(error)

    deploying = threading.Thread(target=deploy, daemon=True)
    deploying.start()
    started = time.monotonic()
    while deploying.is_alive():
        deploying.join(0.2)
        seconds = time.monotonic() - started
        if seconds > _PLACED_S and (why := _why_not_placed(config)) is not None:
            raise ValueError(f"the service does not start: {why}")
        if seconds > _STARTED_S:
            raise ValueError(f"the service does not start within {_STARTED_S:.0f} s")
    if failed:
        raise ValueError(f"the service does not start: {_reason(failed[0])}") from failed[0]


def _why_not_placed(config: ServiceConfig) -> str | None:
    import ray
    from ray import serve

    if is_placed(config, ray.cluster_resources(), ray.available_resources()):
        return None
    application = serve.status().applications.get(_APPLICATION)
    for name, deployment in application.deployments.items() if application else ():
        if "scheduled" in deployment.message or "PENDING_ALLOCATION" in str(deployment.replica_states):
            return f"no machine has room for another {name}: {_one_line(deployment.message)}"
    return None


def _reason(error: BaseException) -> str:
    return _one_line(str(error)) or type(error).__name__


def _one_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _stop() -> None:
    """Delete the application, which puts running jobs back into the queue, and leave the cluster."""

    def stop() -> None:
        # The cluster may be gone already, and Ray half imported.
        with contextlib.suppress(Exception):
            import ray

            if not ray.is_initialized():  # `serve.delete` would join any cluster that it finds on this machine
                return
            with contextlib.suppress(Exception):
                # serve.shutdown would take seconds longer and log errors about the controller that it stops itself.
                from ray import serve

                serve.delete(_APPLICATION)
            ray.shutdown()

    stopping = threading.Thread(target=stop, daemon=True)
    stopping.start()
    stopping.join(_STOPPED_S)
