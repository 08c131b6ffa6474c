"""Video jobs: an avatar and a driver -> a video in the store."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pipelines.provenance.marks import mark
from pipelines.provenance.signing_key import SigningKey, load_signing_key
from pipelines.storage.scratch import ScratchFolder
from serving.batch.marking import with_inputs_shown
from serving.render_options import render_options
from serving.service.builtin_drivers import builtin_driver
from serving.service.config import ServiceConfig
from serving.service.errors import in_clients_words, public_reason
from serving.service.state.requests import Facts, VideoRequest
from serving.service.store import PREVIEW, SIDE_BY_SIDE, VIDEO, Store
from serving.service.work.credentials import video_provenance
from serving.service.work.lease import JobOrder, Lease, Work
from training.animation.motion.formats import is_film

if TYPE_CHECKING:
    from serving.batch.avatar_maker import AvatarMaker, LoadedAvatar

_NUM_CACHED_AVATARS = 4
_PREVIEW_S = 2.0
_PREVIEW_PX = 320


def make_renderer(config: ServiceConfig) -> Work:
    """Return what renders videos. It keeps the last avatars in memory, and detectors once loaded."""
    from serving.batch.avatar_maker import AvatarOptions, LoadedAvatar, ModelAvatarMaker
    from serving.batch.workspace import Workspace
    from training.avatars.avatar import load_avatar
    from training.device import choose_device

    store, key = config.store(), load_signing_key()
    scratch = ScratchFolder()
    device = str(choose_device(config.device))
    maker = ModelAvatarMaker(AvatarOptions(config.model, device=device), Workspace(scratch.name, Path(scratch.name)))

    @lru_cache(_NUM_CACHED_AVATARS)
    def load(url: str) -> LoadedAvatar:
        return LoadedAvatar(load_avatar(url))

    def work(order: JobOrder, lease: Lease) -> Facts:
        return {**run_render(order, lease, store=store, load=load, maker=maker, key=key), "device": device}

    return work


def run_render(
    order: JobOrder,
    lease: Lease,
    *,
    store: Store,
    load: Callable[[str], LoadedAvatar],
    maker: AvatarMaker,
    key: SigningKey,
) -> Facts:
    """Render the video of a job into the store; return facts for the client.

    Raises:
        ValueError: the driver cannot be used (no face, no frames ...), in the client's words.
        JobCancelled: the lease was stopped.
    """
    from serving.batch.avatar_maker import VideoFiles

    request = order.request
    assert request.kind == "video"
    lease.progress(0, 0, "avatar")
    store.remove_result(order.id)  # what a killed worker has left
    avatar = load(store.avatar(order.avatar_id))
    with ExitStack() as stack:
        driver = stack.enter_context(store.local(driver_url(store, order.id, request)))
        scratch = Path(stack.enter_context(ScratchFolder()))
        options = render_options(request.options)
        files = {VIDEO: scratch / VIDEO}
        if request.options.side_by_side and is_film(request.driver):  # motion and speech have no picture to show
            files[SIDE_BY_SIDE] = scratch / SIDE_BY_SIDE
        stack.enter_context(in_clients_words({str(driver): "driver"}))
        report = maker.render(
            avatar,
            VideoFiles(driver, request.driver_id or order.id, files[VIDEO], files.get(SIDE_BY_SIDE)),
            options,
            lambda done, total: lease.progress(done, total, "rendering"),
            PreviewPictures(store, order.id),
        )
        lease.progress(1, 1, "saving")
        provenance = video_provenance(avatar.avatar, driver, options)
        for name, path in files.items():
            mark(path, provenance if name == VIDEO else with_inputs_shown(provenance), key)
            store.put(path, store.result(order.id, name))
    return {
        "frames": report.frames,
        "fps": str(report.fps),
        "width": report.width,
        "height": report.height,
        "has_audio": report.has_audio,
        "frames_without_face": report.frames_without_face,
        "seconds": round(report.seconds, 3),
        "network_ms_per_frame": round(report.network_ms_per_frame, 2),
        "num_pictures_used": len(set(report.portraits_used).union(*report.openings_used.values())),
        **({} if report.csim is None else {"csim": round(report.csim, 4)}),
        **({"note": public_reason(ValueError("; ".join(report.notes)), {})} if report.notes else {}),
    }


class PreviewPictures:
    """Stores one of the pictures that are drawn every few seconds, small, for those who watch."""

    def __init__(self, store: Store, job_id: str) -> None:
        self._store, self._url = store, store.result(job_id, PREVIEW)
        self._due = 0.0

    def __call__(self, picture: UInt8[np.ndarray, "height width 3"]) -> None:
        if (now := time.monotonic()) < self._due:
            return
        self._due = now + _PREVIEW_S
        small = Image.fromarray(picture)
        small.thumbnail((_PREVIEW_PX, _PREVIEW_PX))
        sink = io.BytesIO()
        small.save(sink, "JPEG", quality=80)
        self._store.put_bytes(sink.getvalue(), self._url)


def driver_url(store: Store, job_id: str, request: VideoRequest) -> str:
    """Return the path or URL of a job's driver."""
    if request.driver_id is None:
        return store.upload(job_id, request.driver)
    if (builtin := builtin_driver(request.driver_id)) is not None:
        return str(builtin.path())
    return store.driver(request.driver_id, request.driver)
