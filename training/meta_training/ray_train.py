"""Ray Train around the loop: workers, checkpoints on any storage, progress, Ctrl-C. The only home of ray here."""

import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import ray.train
import torch
from jaxtyping import UInt8
from ray.train import Checkpoint, CheckpointConfig, CheckpointUploadMode, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines import storage
from pipelines.cli import console
from training.checkpoints.bundle import TrainingProvenance, copy_bundle, newest_intact
from training.config import TrainConfig
from training.episodes.source import open_source
from training.losses.perceptual_files import PerceptualFiles
from training.meta_training.checkpoint import save_bundle
from training.meta_training.collectives import Exchange, ProcessGroup, SingleProcess
from training.meta_training.control import Control
from training.meta_training.loop import Request, train
from training.meta_training.step import Learner
from training.meta_training.system_metrics import SystemMetrics, describe
from training.tracking.records import Metrics, Record, Tags, sample_picture
from training.tracking.tracker import Tracker

_OBJECT_STORE_BYTES = 150 * 2**20
_POLL_SECONDS = 0.5
_SECONDS_TO_STOP = 600.0  # the step that runs, and a checkpoint of gigabytes on its way to a store
_NAME = "meta-train"


@dataclass(frozen=True)
class Cluster:
    """Where training runs."""

    num_workers: int
    gpus: bool
    address: str | None
    """Of a running Ray cluster; None starts one here."""
    min_workers: int | None = None
    """Go on with as few when machines are lost, and grow again when they return; None for always `num_workers`."""
    max_failures: int = 16
    """Workers or machines that may be lost, one after the other, before the run fails. Announced losses are free."""

    def scaling(self) -> ScalingConfig:
        fixed = self.min_workers is None or self.min_workers == self.num_workers
        workers = self.num_workers if fixed else (self.min_workers, self.num_workers)
        return ScalingConfig(num_workers=workers, use_gpu=self.gpus)


@dataclass(frozen=True)
class _Job:
    """What a worker needs; plain data, so that no module is pickled."""

    config: TrainConfig
    dataset: str
    checkpoints: str
    control: Any
    scratch: str | None
    perceptual_files: PerceptualFiles | None
    start_from: str | None


def fit(
    config: TrainConfig,
    dataset: str,
    run: str,
    cluster: Cluster,
    tracker: Tracker,
    on_progress: Callable[[int, Mapping[str, float]], None],
    scratch: str | None = None,
    perceptual_files: PerceptualFiles | None = None,
    start_from: str | None = None,
) -> str:
    """Train on a Ray cluster; returns the URL of the last checkpoint. Run again with the same `run`, it resumes.

    Args:
        dataset: path or URL of the shards; absolute, since workers have folders of their own. Not read
            where people are drawn online.
        run: path or URL of the run; checkpoints go below it.
        scratch: absolute path of the workers' folder for copies of shards; see `open_data`.
        perceptual_files: where every worker finds weights that no registry carries.
        start_from: absolute path or URL of the base model that the configuration begins with.
        on_progress: called about twice a second with the last logged step and its metrics.

    Raises:
        KeyboardInterrupt: after Ctrl-C, when a checkpoint has been written.
        ValueError, OSError: the worker's own, such as a shard that is damaged or missing.
        RuntimeError: training failed otherwise; the message is the worker's.
    """
    ours = not ray.is_initialized()
    start_ray(cluster)
    try:
        # Beside this process: on a machine that may be taken away it would take the run along.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        control = ray.remote(num_cpus=0, scheduling_strategy=here)(Control).remote()
        filesystem, path = storage.arrow_filesystem(storage.join(run, "checkpoints"))
        trainer = TorchTrainer(
            _work,
            train_loop_config={
                "job": _Job(config, dataset, checkpoints_of(run), control, scratch, perceptual_files, start_from)
            },
            scaling_config=cluster.scaling(),
            run_config=RunConfig(
                name=_NAME,
                storage_path=path,
                storage_filesystem=filesystem,
                checkpoint_config=CheckpointConfig(num_to_keep=2),
                failure_config=FailureConfig(max_failures=cluster.max_failures),
            ),
        )

        def on_news(step: int, metrics: Mapping[str, float]) -> None:
            _fetch_records(control, tracker)
            on_progress(step, metrics)

        try:
            _watch(trainer, control, on_news)
        finally:
            _fetch_records(control, tracker)
        checkpoint, _ = newest_intact(checkpoints_of(run))
        assert checkpoint is not None  # the last step has written it
        return checkpoint
    finally:
        if ours:
            ray.shutdown()


def checkpoints_of(run: str) -> str:
    """The folder of a run's checkpoints."""
    return storage.join(run, "checkpoints", _NAME)


def start_ray(cluster: Cluster) -> None:
    """Join a cluster, or start a small one on loopback. What SIGTERM does stays as it was: Ray would set its own."""
    on_sigterm = signal.getsignal(signal.SIGTERM)
    _init_ray(cluster)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)


def _init_ray(cluster: Cluster) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "ignore_reinit_error": True}
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    if address:
        ray.init(address=address, **quiet)
        return
    for tries_left in (2, 1, 0):
        try:
            # A worker more than cores: the controller and the data threads mostly wait.
            ray.init(
                "local",  # not some other cluster of this machine
                num_cpus=max(os.cpu_count() or 1, cluster.num_workers) + 1,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                _node_ip_address="127.0.0.1",
                **quiet,
            )
            return
        except Exception as error:
            # On a busy machine its daemon can take longer than the half minute it is given.
            if not tries_left or "timed out during startup" not in str(error):
                raise
            ray.shutdown()


def _fetch_records(control: Any, tracker: Tracker) -> None:
    with suppress(ray.exceptions.RayError):  # the log must not hide why training ended
        for record in ray.get(control.take_records.remote()):
            tracker.put(record)


def _watch(trainer: TorchTrainer, control: Any, on_progress: Callable[[int, Mapping[str, float]], None]) -> None:
    """Run `fit` beside the main thread, which shows progress and takes Ctrl-C."""
    errors: list[Exception] = []
    # Not the thread's own `join`: interrupted by Ctrl-C, Python 3.11 and 3.12 then take a running thread for finished.
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
            on_progress(*ray.get(control.progress.remote()))
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
    """What the worker said: Ray pastes its traceback into the message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _worker_error(line: str) -> Exception:
    """What a worker raised, of its kind where the user can do something about it, such as a damaged shard."""
    kind, _, message = line.partition(": ")
    kinds = {"ValueError": ValueError, "OSError": OSError, "FileNotFoundError": OSError, "PermissionError": OSError}
    return kinds[kind](message) if kind in kinds and message else RuntimeError(line)


def _work(settings: Mapping[str, Any]) -> None:
    """One worker, from Ray's point of view."""
    job: _Job = settings["job"]
    context = ray.train.get_context()
    torch.set_num_threads(max((os.cpu_count() or 1) // context.get_local_world_size(), 1))
    exchange: Exchange = ProcessGroup() if context.get_world_size() > 1 else SingleProcess()
    device = ray.train.torch.get_device()
    observer = _RayObserver(job, exchange, device)
    source = open_source(job.dataset, job.config, job.scratch)
    # Not Ray's own record of the newest: it does not know whether that is damaged.
    checkpoint = exchange.broadcast_from_rank0(lambda: newest_intact(job.checkpoints)[0])
    train(job.config, source, observer, exchange, device, checkpoint, job.perceptual_files, job.start_from)


class _RayObserver:
    """Passes the loop's news on: metrics and pictures from the first worker, checkpoints from all at once."""

    def __init__(self, job: _Job, exchange: Exchange, device: torch.device) -> None:
        self.job, self.is_first, self._load = job, exchange.rank == 0, SystemMetrics(device)
        self._heeded: list[str] = []
        self._record(Tags(describe(device, exchange.world_size)))

    def _record(self, record: Record) -> None:
        if self.is_first:
            self.job.control.record.remote(record)

    def request(self, step: int) -> Request:
        if ray.get(self.job.control.stop.remote(step)):
            return Request.STOP
        notice = ray.train.get_preemption_info()
        leaving = [] if notice is None else notice.preempted_node_ids
        if leaving == self._heeded:
            return Request.NOTHING
        self._heeded = leaving
        return Request.CHECKPOINT if leaving else Request.NOTHING

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if self.is_first:
            self.job.control.report.remote(step, dict(metrics))
            self._record(Metrics(step, {**metrics, **self._load()}, time.time_ns() // 1_000_000))

    def sample(self, step: int, grid: UInt8[np.ndarray, "h w 3"], metrics: Mapping[str, float]) -> None:
        self._record(sample_picture(step, grid))
        self._record(Metrics(step, dict(metrics), time.time_ns() // 1_000_000))

    def checkpoint(
        self, learner: Learner, origin: TrainingProvenance, metrics: Mapping[str, float], *, urgent: bool
    ) -> None:
        # Reporting is a barrier: every worker reports, the first one with the files. Those of an ordinary checkpoint
        # are on their way while the next steps are made.
        mode = CheckpointUploadMode.SYNC if urgent else CheckpointUploadMode.ASYNC
        if not self.is_first:
            ray.train.report(dict(metrics), checkpoint_upload_mode=mode)
            return
        folder = tempfile.mkdtemp(prefix="sfumato-checkpoint-")
        save_bundle(folder, learner, origin)
        ray.train.report(
            dict(metrics),
            checkpoint=Checkpoint.from_directory(folder),
            checkpoint_dir_name=f"step-{origin.step:08d}-{time.time_ns()}",  # a step may come again after a failure
            checkpoint_upload_mode=mode,
            checkpoint_upload_fn=self._upload,
            delete_local_checkpoint_after_upload=True,
        )

    def _upload(self, checkpoint: Checkpoint, name: str) -> Checkpoint:
        """Ray's own way has no second try, and may write the manifest before the files it vouches for."""
        copy_bundle(checkpoint.path, storage.join(self.job.checkpoints, name))
        ours = ray.train.get_context().get_storage()
        return Checkpoint(f"{ours.experiment_fs_path}/{name}", ours.storage_filesystem)
