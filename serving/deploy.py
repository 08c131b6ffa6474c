"""Start the service on Ray and stop it again, whatever happens in between."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil

from pipelines import cli
from serving.app import FRONT_END_CPUS, STILLS_CPUS, build_application
from serving.service.config import ServiceConfig
from training.local_ray import start_local_ray

_APPLICATION = "sfumato"
_PLACED_S = 25.0  # a start that takes longer without being placed is explained
_STARTED_S = 300.0
_STOPPED_S = 6.0
_WORKER_BYTES = 1200 * 2**20  # torch, the detector, a model and an avatar
# An idle Ray that nobody watches and that no machine joins asks itself less often. Ray reads these variables in all its
# processes (src/ray/common/ray_config_def.h, ray/serve/_private/constants.py).
_SELDOM = {
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "10000",
    "RAY_debug_dump_period_milliseconds": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_event_stats": "0",
    "RAY_gcs_pull_resource_loads_period_milliseconds": "5000",
    "RAY_io_context_monitor_probe_interval_ms": "5000",
    "RAY_local_fs_monitor_interval_ms": "2000",
    "RAY_metrics_report_interval_ms": "60000",
    "RAY_object_manager_timer_freq_ms": "1000",
    "RAY_raylet_report_resources_period_milliseconds": "1000",
    "RAY_report_worker_backlog_interval_ms": "1000",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_DASHBOARD_AGENT_CHECK_PARENT_INTERVAL_S": "2",
}


@contextlib.contextmanager
def deployed(config: ServiceConfig, ray_address: str | None) -> Iterator[None]:
    """Run the service's application while the block lasts, on a private Ray or on a cluster.

    Raises:
        ValueError: the workers cannot be placed, or do not start; the message says why.
        KeyboardInterrupt: SIGTERM or SIGINT; everything that was started is stopped.
    """
    if ray_address is None:
        _check_machine(config)
    cli.console().print("starting Ray Serve ...")
    # Ray reads these variables when it is imported.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    interrupted = threading.Event()
    _interrupt_on_sigterm(interrupted)
    try:
        _start_ray(config, ray_address)
        import ray
        from ray import serve

        logging.getLogger("ray.serve").addFilter(lambda record: record.levelno >= logging.WARNING)
        _interrupt_on_sigterm(interrupted)  # Ray has installed a handler of its own
        _check_resources(config, ray.cluster_resources())
        serve.start(proxy_location="Disabled", logging_config={"log_level": "WARNING", "enable_access_log": False})
        _run(config)
        yield
    except BaseException as error:
        # While Ray starts, its own handler raises SystemExit, and its code may turn our interrupt into other errors.
        if interrupted.is_set() or isinstance(error, SystemExit):
            raise KeyboardInterrupt from error
        raise
    finally:
        _stop(before, private=ray_address is None)


def memory_bytes() -> int:
    """Return the memory of this process and all its children, shared pages counted once."""
    total = 0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total


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


def _num_cpus(config: ServiceConfig, workers: int) -> float:
    """Return the CPUs that Ray's scheduler needs for the service with this number of workers."""
    return config.cpus_per_worker * workers + FRONT_END_CPUS * config.num_front_ends + STILLS_CPUS * config.num_stills


def _check_machine(config: ServiceConfig) -> None:
    """Raise ValueError when this machine alone cannot run the workers: said before anything starts."""
    import torch

    workers = config.num_finetuners + config.num_renderers
    there, needed = psutil.virtual_memory().total, workers * _WORKER_BYTES
    if needed > there:
        raise ValueError(
            f"{workers} workers need about {needed / 2**30:.0f} GiB of memory, this machine has {there / 2**30:.0f}:"
            " give fewer --num-renderers or --num-finetuners, or --min-workers 0 and fewer at once"
        )
    if config.num_gpus:
        _check_resources(config, {"GPU": float(torch.cuda.device_count()), "CPU": math.inf})


def _check_resources(config: ServiceConfig, there: dict[str, float]) -> None:
    """Raise ValueError when the workers can never be placed."""
    workers = _num_workers(config)
    needed = {
        "GPU": config.num_gpus * workers,
        "CPU": _num_cpus(config, workers),
    }
    for name, amount in needed.items():
        if amount > there.get(name, 0.0) + 1e-6:
            flag = "--num-gpus" if name == "GPU" else "--cpus-per-worker"
            raise ValueError(
                f"{workers} workers need {amount:g} {name}s, there are {there.get(name, 0.0):g}: give a smaller {flag}"
                " or fewer workers"
            )


def _start_ray(config: ServiceConfig, address: str | None) -> None:
    if address is not None:
        import ray

        ray.init(address, log_to_driver=False, logging_level=logging.WARNING)
        return
    for name, value in _SELDOM.items():
        os.environ.setdefault(name, value)
    workers = config.num_finetuners + config.num_renderers
    # Renderers and fine-tuners seldom work at once: each is promised what it may use.
    start_local_ray(math.ceil(_num_cpus(config, workers)))
    _end_watchers()


def _end_watchers() -> None:
    """End the processes of Ray that follow logs, scale clusters and report use: nothing here asks them."""
    from ray._private import worker

    node = worker._global_node
    for name in ("kill_log_monitor", "kill_monitor", "kill_dashboard"):
        with contextlib.suppress(Exception):  # Ray has no setting for it; a version without them goes on watching
            getattr(node, name)(check_alive=False)


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
        if seconds > _PLACED_S and (why := _why_not_placed()) is not None:
            raise ValueError(f"the service does not start: {why}")
        if seconds > _STARTED_S:
            raise ValueError(f"the service does not start within {_STARTED_S:.0f} s")
    if failed:
        raise ValueError(f"the service does not start: {_reason(failed[0])}") from failed[0]


def _why_not_placed() -> str | None:
    from ray import serve

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


def _stop(before: set[int], *, private: bool) -> None:
    """Delete the application, which puts running jobs back into the queue, and end Ray with all its processes."""
    started: list[Any] = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]

    def stop() -> None:
        # Ray is gone already when the whole process group was told to end, and half imported when its start was.
        with contextlib.suppress(Exception):
            # serve.shutdown would take seconds longer and log errors about the controller that it stops itself.
            from ray import serve

            serve.delete(_APPLICATION)
        with contextlib.suppress(Exception):
            import ray

            ray.shutdown()

    stopping = threading.Thread(target=stop, daemon=True)
    stopping.start()
    stopping.join(_STOPPED_S)
    if private:
        for child in started:
            with contextlib.suppress(psutil.Error):
                child.kill()
