"""Single pictures of an avatar with an expression and a pose; no jobs: the client waits."""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import TYPE_CHECKING

from pipelines.provenance.marks import marked
from pipelines.provenance.signing_key import load_signing_key
from serving.service.config import ServiceConfig
from serving.service.state.requests import Facts, StillRequest
from serving.service.work.credentials import still_provenance
from serving.service.work.lease import JobOrder, Lease, Work
from training.animation.motion.sliders import Sliders

if TYPE_CHECKING:
    from training.animation.animator import Animator
    from training.avatars.avatar import Avatar

_NUM_KEPT = 4  # avatars


def make_drawer(config: ServiceConfig) -> Work:
    """Return what draws pictures. It keeps the last avatars in memory. The fact `jpeg` is the picture in base64."""
    from training.animation.animator import Animator
    from training.avatars.avatar import load_avatar

    store, key = config.store(), load_signing_key()

    @lru_cache(_NUM_KEPT)
    def avatar(avatar_id: str) -> Avatar:
        return load_avatar(store.avatar(avatar_id))

    @lru_cache(2 * _NUM_KEPT)  # at two sizes
    def animator(avatar_id: str, max_size: int) -> Animator:
        return Animator(avatar(avatar_id), max_size=max_size)  # on the CPU, which takes 0.1 s

    def work(order: JobOrder, _lease: Lease) -> Facts:
        request = order.request
        assert isinstance(request, StillRequest)
        sliders = Sliders(**request.sliders)
        drawn = draw_jpeg(animator(order.avatar_id, request.max_size), sliders)
        drawn = marked(drawn, "still.jpg", still_provenance(avatar(order.avatar_id), sliders), key)
        return {"jpeg": base64.b64encode(drawn).decode()}

    return work


def draw_jpeg(animator: Animator, sliders: Sliders) -> bytes:
    """Draw the whole picture with the sliders' expression and pose, as JPEG that is marked as generated."""
    from pipelines.media.images import encode_still
    from training.animation.motion.still import draw_still
    from training.animation.render import COMMENT

    return encode_still(animator.paste(draw_still(animator, sliders).region), "still.jpg", COMMENT)
