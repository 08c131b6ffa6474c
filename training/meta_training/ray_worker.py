"""What Ray Train runs on each worker: the loop, with an observer that reports to Ray."""

import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import ray
import ray.train
import torch
from jaxtyping import UInt8
from ray.train import Checkpoint, CheckpointUploadMode

from pipelines import log_lines, storage
from pipelines.machine import available_cpus
from training.checkpoints.bundle import TrainingProvenance, newest_intact
from training.config import TrainConfig
from training.episodes.source import open_source
from training.losses.perceptual_files import PerceptualFiles
from training.meta_training.checkpoint import save_bundle
from training.meta_training.collectives import Exchange, ProcessGroup, SingleProcess
from training.meta_training.loop import Request, train
from training.meta_training.metrics.exported_metrics import CHECKPOINT_PAUSE, CHECKPOINT_WRITE
from training.meta_training.metrics.system_metrics import SystemMetrics, describe
from training.meta_training.step import Snapshot
from training.tracking.records import Metrics, Record, Tags, sample_picture


@dataclass(frozen=True)
class Job:
    """Arguments of a worker; plain data, so that no module is pickled."""

    config: TrainConfig
    dataset: str
    checkpoints: str
    control: Any
    shard_cache: str | None
    perceptual_files: PerceptualFiles | None
    start_from: str | None


def work(settings: Mapping[str, Any]) -> None:
    """The function that Ray Train runs on each worker."""
    log_lines.install("meta-train")
    job: Job = settings["job"]
    context = ray.train.get_context()
    torch.set_num_threads(max(available_cpus() // context.get_local_world_size(), 1))
    exchange: Exchange = ProcessGroup() if context.get_world_size() > 1 else SingleProcess()
    device = ray.train.torch.get_device()
    observer = RayObserver(job, exchange, device)
    source = open_source(job.dataset, job.config, job.shard_cache)
    # Not Ray's own record of the newest checkpoint, which may be damaged.
    checkpoint = exchange.broadcast_from_rank0(lambda: newest_intact(job.checkpoints)[0])
    train(job.config, source, observer, exchange, device, checkpoint, job.perceptual_files, job.start_from)


class RayObserver:
    """Reports metrics and samples from the first worker, and checkpoints from all workers."""

    def __init__(self, job: Job, exchange: Exchange, device: torch.device) -> None:
        self.job, self.is_first, self._load = job, exchange.rank == 0, SystemMetrics(device)
        self._handled_nodes: list[str] = []
        self._written = threading.Event()
        self._written.set()
        self._checkpoint_seconds: dict[str, float] = {}
        self._record(Tags(describe(device, exchange.world_size)))

    def _record(self, record: Record) -> None:
        if self.is_first:
            self.job.control.record.remote(record)

    def request(self, step: int) -> Request:
        if ray.get(self.job.control.stop.remote(step)):
            return Request.STOP
        notice = ray.train.get_preemption_info()
        leaving = [] if notice is None else notice.preempted_node_ids
        if leaving == self._handled_nodes:
            return Request.NOTHING
        self._handled_nodes = leaving
        return Request.CHECKPOINT if leaving else Request.NOTHING

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if self.is_first:
            values = {**metrics, **self._checkpoint_seconds}
            self.job.control.report.remote(step, values)
            self._record(Metrics(step, {**values, **self._load()}, time.time_ns() // 1_000_000))

    def sample(self, step: int, grid: UInt8[np.ndarray, "h w 3"], metrics: Mapping[str, float]) -> None:
        self._record(sample_picture(step, grid))
        self._record(Metrics(step, dict(metrics), time.time_ns() // 1_000_000))

    def checkpoint(
        self, snapshot: Snapshot, origin: TrainingProvenance, metrics: Mapping[str, float], *, urgent: bool
    ) -> None:
        # Reporting is a barrier: every worker reports, the first one with the checkpoint. Unless urgent, it is written
        # during the next steps.
        mode = CheckpointUploadMode.SYNC if urgent else CheckpointUploadMode.ASYNC
        if not self.is_first:
            ray.train.report(dict(metrics), checkpoint_upload_mode=mode)
            return
        began = time.perf_counter()
        self._written.wait()  # a second copy would double the memory
        self._written.clear()
        ray.train.report(
            dict(metrics),
            # Ray wants a folder of its own; `_upload` writes to the storage at once.
            checkpoint=Checkpoint.from_directory(tempfile.mkdtemp(prefix="sfumato-checkpoint-")),
            checkpoint_dir_name=f"step-{origin.step:08d}-{time.time_ns()}",  # a step may repeat after a failure
            checkpoint_upload_mode=mode,
            checkpoint_upload_fn=partial(self._upload, snapshot, origin),
            delete_local_checkpoint_after_upload=True,
        )
        self._checkpoint_seconds[CHECKPOINT_PAUSE] = time.perf_counter() - began

    def _upload(self, snapshot: Snapshot, origin: TrainingProvenance, _folder: Checkpoint, name: str) -> Checkpoint:
        """Write with retries, the manifest last; Ray's own upload does neither."""
        began = time.perf_counter()
        try:
            save_bundle(storage.join(self.job.checkpoints, name), snapshot, origin)
            self._checkpoint_seconds[CHECKPOINT_WRITE] = time.perf_counter() - began
        finally:
            self._written.set()
        target = ray.train.get_context().get_storage()
        return Checkpoint(f"{target.experiment_fs_path}/{name}", target.storage_filesystem)
