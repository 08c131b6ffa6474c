"""Rendering jobs (avatar + driver -> video), and the Serve replica that runs them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from serving.service.config import ServiceConfig
from serving.service.errors import JobCancelled, public_reason
from serving.service.job_queue import Facts, Job
from serving.service.store import Store
from serving.service.worker import JobLease, Replica

if TYPE_CHECKING:  # torch and the detectors load in the replica, not in the ingress
    from pipelines.faces.face import LandmarkDetector
    from pipelines.media.decoder.process import Decoder
    from training.animation.animator import Animator

_NUM_CACHED_AVATARS = 4


def run_render(
    job: Job,
    lease: JobLease,
    *,
    store: Store,
    load: Callable[[str], Animator],
    create_detector: Callable[[str], LandmarkDetector],
    decoder: Decoder | None = None,
) -> Facts:
    """Render the video of a job; return facts for the client.

    Raises:
        ValueError: the driver cannot be used (no face, no frames ...); the message names the file.
        JobCancelled: the lease is lost.
    """
    from training.animation.render import Cancelled, RenderOptions, animate

    request = job.request
    assert request.kind == "video"
    out = store.result(job.id)
    out.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    animator = load(store.avatar(job.avatar_id))
    try:
        report = animate(
            animator,
            store.upload(job.id, request.driver),
            out,
            RenderOptions(),
            detector=create_detector(animator.config.detector),
            decoder=decoder,
            on_frame=lease.progress,
            cancelled=lease.cancelled,
        )
    except Cancelled as error:
        raise JobCancelled from error
    return {
        "frames": report.frames,
        "fps": str(report.fps),
        "width": report.width,
        "height": report.height,
        "has_audio": report.has_audio,
        "frames_without_face": report.frames_without_face,
        "seconds": round(report.seconds, 3),
        "network_ms_per_frame": round(report.network_ms_per_frame, 2),
        "num_pictures_used": len(report.portraits_used),
        **({"note": public_reason(ValueError("; ".join(report.notes)), {})} if report.notes else {}),
    }


class Renderer(Replica):
    """Renders videos with the detector of each avatar's model. Keeps the last avatars in memory."""

    def __init__(self, config: ServiceConfig) -> None:
        from pipelines.faces.detectors import create_detector
        from pipelines.media.decoder.process import Decoder, Limits
        from training.animation.animator import Animator
        from training.animation.render import RenderOptions
        from training.avatars.avatar import load_avatar
        from training.device import choose_device

        store, device = Store.create(config.data_dir, config.avatars), choose_device(config.device)
        detector = cache(create_detector)
        decoder = Decoder(Limits(clip_s=math.inf))

        @lru_cache(_NUM_CACHED_AVATARS)
        def load(url: str) -> Animator:
            return Animator(load_avatar(url), max_size=RenderOptions().max_size, device=device)

        def work(job: Job, lease: JobLease) -> Facts:
            return run_render(job, lease, store=store, load=load, create_detector=detector, decoder=decoder)

        super().__init__(config, store, "video", work)
