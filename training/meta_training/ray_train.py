"""Run the loop on Ray Train: workers, checkpoints, progress, Ctrl-C."""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import ray
import ray.train
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines import storage
from pipelines.cli import console
from pipelines.machine import available_cpus
from training.checkpoints.bundle import newest_intact
from training.config import TrainConfig
from training.local_ray import start_local_ray
from training.losses.perceptual_files import PerceptualFiles
from training.meta_training.control import Control
from training.meta_training.ray_worker import Job, work
from training.ray_cluster import join_cluster
from training.tracking.tracker import Tracker

_POLL_SECONDS = 0.5
_SECONDS_TO_STOP = 600.0  # for the running step, and for uploading a checkpoint of gigabytes
_NAME = "meta-train"


@dataclass(frozen=True)
class Cluster:
    """Resources to train on."""

    num_workers: int
    gpus: bool
    address: str | None
    """Address of a running Ray cluster; None: start one on this machine."""
    min_workers: int | None = None
    """Continue with at least this many when machines are lost, and grow again; None: always `num_workers`."""
    max_failures: int = 16
    """Failures of workers or machines to tolerate before the run fails; announced preemptions do not count."""

    def scaling(self) -> ScalingConfig:
        fixed = self.min_workers is None or self.min_workers == self.num_workers
        workers = self.num_workers if fixed else (self.min_workers, self.num_workers)
        return ScalingConfig(num_workers=workers, use_gpu=self.gpus)


def fit(
    config: TrainConfig,
    dataset: str,
    run: str,
    cluster: Cluster,
    tracker: Tracker,
    on_progress: Callable[[int, Mapping[str, float]], None],
    shard_cache: str | None = None,
    perceptual_files: PerceptualFiles | None = None,
    start_from: str | None = None,
) -> str:
    """Train on a Ray cluster and return the URL of the last checkpoint; with an existing `run`, resume it.

    Args:
        dataset: absolute path or URL of the shards; not read with synthetic people.
        run: path or URL of the run; checkpoints go below it.
        on_progress: called about twice a second with the last logged step and its metrics.
        shard_cache: absolute path of the workers' folder for copies of shards; see `open_dataset`.
        perceptual_files: where every worker finds the weights of the published content loss.
        start_from: absolute path or URL of the initial base model.

    Raises:
        KeyboardInterrupt: after Ctrl-C, when a checkpoint has been written.
        ValueError, OSError: raised by a worker, such as for a damaged or missing shard.
        RuntimeError: training failed otherwise; the message is the worker's.
    """
    is_own_cluster = not ray.is_initialized()
    start_ray(cluster)
    try:
        # On this process's node: the actor must not be lost with a preempted machine.
        this_node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        control = ray.remote(num_cpus=0, scheduling_strategy=this_node)(Control).remote()
        filesystem, path = storage.arrow_filesystem(storage.join(run, "checkpoints"))
        job = Job(config, dataset, checkpoints_of(run), control, shard_cache, perceptual_files, start_from)
        trainer = TorchTrainer(
            work,
            train_loop_config={"job": job},
            scaling_config=cluster.scaling(),
            run_config=RunConfig(
                name=_NAME,
                storage_path=path,
                storage_filesystem=filesystem,
                checkpoint_config=CheckpointConfig(num_to_keep=2),
                failure_config=FailureConfig(max_failures=cluster.max_failures),
            ),
        )
        _identify(trainer, run)

        def on_poll(step: int, metrics: Mapping[str, float]) -> None:
            _fetch_records(control, tracker)
            on_progress(step, metrics)

        try:
            _fit_in_thread(trainer, control, on_poll)
        finally:
            _fetch_records(control, tracker)
        checkpoint, _ = newest_intact(checkpoints_of(run))
        assert checkpoint is not None  # written by the last step
        return checkpoint
    finally:
        if is_own_cluster:
            ray.shutdown()


def checkpoints_of(run: str) -> str:
    """Return the folder of a run's checkpoints."""
    return storage.join(run, "checkpoints", _NAME)


def _identify(trainer: TorchTrainer, run: str) -> None:
    """Give Ray the same id of a run at every start, instead of a random one.

    Elastic training reserves its machines by this id. Those of a start that was killed stay reserved for three minutes,
    in which a start with another id would find none.
    """
    object.__setattr__(trainer.train_run_context, "run_id", sha256(run.encode()).hexdigest()[:32])


def start_ray(cluster: Cluster) -> None:
    """Join a cluster, or start a local one on loopback. Keeps the handler of SIGTERM, which Ray would replace."""
    on_sigterm = signal.getsignal(signal.SIGTERM)
    if ray.is_initialized():
        pass
    elif cluster.address or os.environ.get("RAY_ADDRESS"):
        join_cluster(cluster.address)
    else:  # one CPU more than there are cores: the controller and the data threads mostly wait
        start_local_ray(max(available_cpus(), cluster.num_workers) + 1)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)


def _fetch_records(control: Any, tracker: Tracker) -> None:
    with suppress(ray.exceptions.RayError):  # a failure here must not hide why training ended
        for record in ray.get(control.take_records.remote()):
            tracker.put(record)


def _fit_in_thread(trainer: TorchTrainer, control: Any, on_poll: Callable[[int, Mapping[str, float]], None]) -> None:
    """Run `trainer.fit` in a thread, while the main thread reports progress and handles Ctrl-C."""
    errors: list[Exception] = []
    # Not `Thread.join`: interrupted by Ctrl-C, Python 3.11 and 3.12 take a running thread for finished.
    finished = threading.Event()

    def run() -> None:
        try:
            trainer.fit()
        except Exception as error:  # noqa: BLE001 - raised again in the main thread
            errors.append(error)
        finally:
            finished.set()

    threading.Thread(target=run, daemon=True).start()
    interrupted_at: float | None = None
    while not finished.is_set():
        try:
            finished.wait(_POLL_SECONDS)
            on_poll(*ray.get(control.progress.remote()))
        except KeyboardInterrupt:
            if interrupted_at is not None:
                raise
            interrupted_at = time.monotonic()
            console().print("stopping at the next checkpoint; Ctrl-C again to stop without it", markup=False)
            control.request_stop.remote()
        if interrupted_at is not None and time.monotonic() - interrupted_at > _SECONDS_TO_STOP:
            raise KeyboardInterrupt
    if interrupted_at is not None:
        raise KeyboardInterrupt
    if errors:
        raise _worker_error(_last_line(errors[0])) from errors[0]


def _last_line(error: Exception) -> str:
    """Return the worker's error line: Ray's message contains the whole traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _worker_error(line: str) -> Exception:
    """Rebuild a worker's exception if the user can act on it, such as for a damaged shard; else a RuntimeError."""
    kind, _, message = line.partition(": ")
    kinds = {"ValueError": ValueError, "OSError": OSError, "FileNotFoundError": OSError, "PermissionError": OSError}
    return kinds[kind](message) if kind in kinds and message else RuntimeError(line)
