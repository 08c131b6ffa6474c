"""Fine-tuning jobs (pictures -> avatar), and the Serve replica that runs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from serving.service.config import ServiceConfig
from serving.service.job_queue import Facts, Job
from serving.service.store import Store
from serving.service.worker import JobLease, Replica

if TYPE_CHECKING:  # torch and the detectors load in the replica, not in the ingress
    from pipelines.faces.face import LandmarkDetector
    from training.checkpoints.bundle import BaseModel
    from training.losses.perceptual_files import PerceptualFiles


def run_fine_tune(
    job: Job,
    lease: JobLease,
    *,
    store: Store,
    model: BaseModel,
    detector: LandmarkDetector,
    num_steps: int | None = None,
    perceptual_files: PerceptualFiles | None = None,
    device: str = "cpu",
) -> Facts:
    """Make and save the avatar of a job; return facts for the client.

    Raises:
        ValueError: the pictures cannot be used (no face, several people ...); the message names the file.
        JobCancelled: the lease is lost.
    """
    from training.avatars.avatar import save_avatar
    from training.avatars.finetune import FineTuneConfig, fine_tune
    from training.avatars.portraits import find_portraits
    from training.device import choose_device

    request = job.request
    assert request.kind == "avatar"
    paths = [str(store.upload(job.id, name)) for name in request.pictures]
    portraits = find_portraits(paths, detector)
    lease.progress(0, num_steps or 0)

    def on_step(step: int, total: int, _losses: Mapping[str, float]) -> None:
        lease.progress(step, total)

    config = FineTuneConfig(num_steps=num_steps)
    avatar = fine_tune(model, portraits, config, on_step, perceptual_files, choose_device(device))
    save_avatar(avatar, store.avatar(job.avatar_id), request.consent)
    return {"num_pictures": len(portraits), "num_steps": avatar.steps, "base_model": avatar.base_version}


class FineTuner(Replica):
    """Makes avatars with one base model and one detector, which are loaded once."""

    def __init__(self, config: ServiceConfig) -> None:
        from pipelines.faces.detectors import create_detector
        from training.checkpoints.bundle import load_bundle
        from training.checkpoints.model_registry import resolve

        store = Store.create(config.data_dir, config.avatars)
        model = load_bundle(resolve(config.model))
        detector = create_detector(model.config.model.detector)

        def work(job: Job, lease: JobLease) -> Facts:
            return run_fine_tune(
                job,
                lease,
                store=store,
                model=model,
                detector=detector,
                num_steps=config.num_steps,
                perceptual_files=config.perceptual_files,
                device=config.device,
            )

        super().__init__(config, store, "avatar", work)
