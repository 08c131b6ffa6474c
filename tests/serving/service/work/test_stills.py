"""Single pictures: whatever one does, the next is drawn; and a real one, small."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines import assets
from serving.service.config import ServiceConfig
from serving.service.errors import BadInput, ServiceError, Unavailable
from serving.service.state.requests import AvatarRequest
from serving.service.work.finetuner import run_fine_tune
from serving.service.work.lease import JobOrder, Lease
from serving.service.work.stills import StillAnswer, StillPool, StillProcess

LATE = "the picture could not be drawn; try again"
ID = "a" * 32


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[StillProcess]:
    """Draws what the avatar's id says, see `stuck_child`."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    process = StillProcess(ServiceConfig("m", "d"), "stuck_child", still_s=0.5)
    process.start()
    yield process
    process.close()


@pytest.mark.slow
def test_a_picture_that_fails_hangs_or_crashes_is_told_and_the_next_is_drawn(stuck: StillProcess) -> None:
    drawn = StillAnswer(jpeg=bytes(3))  # AAAA in base64
    for behaviour, answer in (
        ("works", drawn),
        ("bad input", StillAnswer(error="picture 1: no face found", is_input=True)),
        ("our fault", StillAnswer(error=LATE)),
        ("crash", StillAnswer(error=LATE)),
        ("works", drawn),
    ):
        assert stuck.draw(behaviour, {}, 64) == answer, behaviour
    started = time.monotonic()
    assert stuck.draw("stuck kernel", {}, 64) == StillAnswer(error=LATE)
    assert time.monotonic() - started < 2
    assert stuck.draw("works", {}, 64) == drawn


class Process:
    """Draws what the avatar's id says."""

    def __init__(self) -> None:
        self.began = threading.get_ident()

    def start(self) -> None:
        self.closed = False

    def draw(self, avatar_id: str, sliders: Any, max_size: int) -> StillAnswer:
        assert threading.get_ident() == self.began, "the thread that started the process, with which it would end"
        if avatar_id == "slow":
            time.sleep(0.3)
        error = avatar_id if avatar_id in (LATE, "yaw ...") else ""
        return StillAnswer(b"" if error else f"{avatar_id} {sliders} {max_size}".encode(), error, error == "yaw ...")

    def close(self) -> None:
        self.closed = True


def test_front_ends_get_pictures_or_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Process] = []

    def make() -> Any:
        made.append(Process())
        return made[-1]

    pool = StillPool(make, 2)
    pool.start()

    def outcome(what: str) -> tuple[type, str]:
        with pytest.raises(ServiceError) as raised:
            asyncio.run(pool.draw(what, {}, 64))
        return type(raised.value), raised.value.message

    async def several() -> list[bytes]:
        return await asyncio.gather(*(pool.draw(name, {"yaw": 3.0}, 512) for name in ("slow", "slow", "b")))

    started = time.monotonic()
    assert asyncio.run(several()) == [f"{name} {{'yaw': 3.0}} 512".encode() for name in ("slow", "slow", "b")]
    assert time.monotonic() - started < 0.55, "two at a time"
    assert outcome("yaw ...") == (BadInput, "yaw ...")
    assert outcome(LATE) == (Unavailable, LATE)
    monkeypatch.setattr("serving.service.work.stills.STILL_S", 0.01)
    assert outcome("slow") == (Unavailable, LATE), "given up"
    pool.close()
    assert len(made) == 2
    assert all(process.closed for process in made)


@pytest.mark.slow
def test_a_still_of_an_avatar_follows_the_sliders_and_is_marked_as_generated(model: Path, tmp_path: Path) -> None:
    from pipelines.faces.detectors import create_detector
    from training.checkpoints.bundle import load_bundle

    config = ServiceConfig(str(model), str(tmp_path / "data"))
    store, base = config.store(), load_bundle(str(model))
    with Image.open(assets.fetch("mona_lisa")) as picture:
        picture.resize((371, 577)).save(tmp_path / "portrait.png")
    store.put(tmp_path / "portrait.png", store.upload(ID, "picture-01.png"))
    order = JobOrder(ID, ID, AvatarRequest(("picture-01.png",)))
    detector = create_detector(base.config.model.detector)
    facts = run_fine_tune(order, Lease(), store=store, model=base, detector=detector, num_steps=0)
    left, top, width, height = (float(facts[f"crop_{name}"] or 0) for name in ("left", "top", "width", "height"))
    # Her face lies between 0.33 and 0.55 of the width and between 0.14 and 0.34 of the height; the crop is square.
    assert left < 0.33 < 0.55 < left + width < 1
    assert top < 0.14 < 0.34 < top + height < 0.6
    assert width * 371 == pytest.approx(height * 577, rel=0.01)

    process = StillProcess(config)
    try:
        stills = [process.draw(ID, sliders, 128) for sliders in ({}, {"yaw": 20.0}, {"yaw": 99.0})]
        lost = process.draw("b" * 32, {}, 128)
    finally:
        process.close()
    assert stills[2] == StillAnswer(error="yaw must lie in [-40, 40], got 99", is_input=True)
    assert lost == StillAnswer(error=LATE)
    drawn = [Image.open(io.BytesIO(still.jpeg)) for still in stills[:2]]
    assert [one.format for one in drawn] == ["JPEG", "JPEG"]
    assert drawn[0].size == (82, 128)
    assert "Generated by Sfumato" in drawn[0].getexif()[0x010E]
    rest, turned = (np.asarray(one).astype(float) for one in drawn)
    assert np.abs(rest - turned).max() > 30
