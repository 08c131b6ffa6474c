"""86 of the list of bad inputs: the device runs out of memory while a video of the service is rendered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pipelines import assets
from pipelines.media.video import probe
from serving.service.config import ServiceConfig
from serving.service.state.requests import AvatarRequest, VideoRequest
from serving.service.store import Store
from serving.service.work.finetuner import run_fine_tune
from serving.service.work.lease import JobOrder, Lease, Work
from serving.service.work.renderer import make_renderer
from training.animation.joint import parts

# What a worker's process leaves open ends with it; here it is collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

AVATAR, VIDEO = "a" * 32, "b" * 32
_KEYS = json.dumps({"fps": 10, "keys": [{"time": 0}, {"time": 0.6, "yaw": 10}]}).encode()


@pytest.fixture
def store(model: Path, tmp_path: Path) -> Store:
    """A store with an avatar and the driver of a video."""
    from pipelines.faces.detectors import create_detector
    from training.checkpoints.bundle import load_bundle

    store, base = Store.create(str(tmp_path / "data")), load_bundle(str(model))
    with Image.open(assets.fetch("mona_lisa")) as picture:
        picture.resize((371, 577)).save(tmp_path / "portrait.png")
    store.put(tmp_path / "portrait.png", store.upload(AVATAR, "picture-01.png"))
    order = JobOrder(AVATAR, AVATAR, AvatarRequest(("picture-01.png",)))
    detector = create_detector(base.config.model.detector)
    run_fine_tune(order, Lease(), store=store, model=base, detector=detector, num_steps=0)
    store.put_bytes(_KEYS, store.upload(VIDEO, "driver.json"))
    return store


@pytest.mark.slow
def test_86_a_video_is_whole_when_batches_had_to_be_halved(
    store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work: Work = make_renderer(ServiceConfig(str(model), store.root, device="cpu"))
    order = JobOrder(VIDEO, AVATAR, VideoRequest("driver.json"))
    draw_batch, tried, room = parts.draw_batch, [], [2]

    def small(drawn: Sequence[parts.Part]) -> list[Any]:
        tried.append(sum(map(len, drawn)))
        if tried[-1] > room[0]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return draw_batch(drawn)

    monkeypatch.setattr(parts, "draw_batch", small)
    facts = work(order, Lease())
    assert max(tried) > 2
    assert facts["frames"] == probe(Path(store.result(VIDEO))).num_frames == 7

    room[0] = 0
    with pytest.raises(torch.OutOfMemoryError):
        work(order, Lease())
    room[0] = 99
    assert work(order, Lease())["frames"] == 7, "the next job is rendered"
