"""Video jobs: which driver, which options, what is stored, and a picture for those who watch."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines import assets
from pipelines.provenance.signing_key import SigningKey
from serving.batch.avatar_maker import VideoFiles
from serving.service.errors import JobCancelled, NotFound
from serving.service.state.requests import VideoOptions, VideoRequest
from serving.service.store import PREVIEW, SIDE_BY_SIDE, VIDEO, Store
from serving.service.work import renderer
from serving.service.work.lease import JobOrder, Lease
from serving.service.work.renderer import driver_url, run_render
from training.animation.render import RenderOptions, RenderReport

ID, AVATAR = "1" * 32, "2" * 32


class Maker:
    """Draws one wide grey picture."""

    def __init__(self, refuse: str | None = None) -> None:
        self.refuse, self.files, self.options = refuse, None, None

    def render(
        self, avatar: Any, files: VideoFiles, options: RenderOptions, on_frame: Any, on_picture: Any
    ) -> RenderReport:
        self.files, self.options = files, options
        if self.refuse is not None:
            raise ValueError(self.refuse.format(driver=files.driver))
        on_picture(np.full((320, 640, 3), 128, np.uint8))
        on_frame(1, 1)
        files.out.write_bytes(b"a video")
        if files.side_by_side is not None:
            files.side_by_side.write_bytes(b"three pictures")
        return RenderReport(
            1, Fraction(25), 640, 320, False, 0, 1.0, 1.0, {"me.png": 1.0}, 1, notes=("a note",), csim=0.9
        )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(str(tmp_path / "data"))
    store.put_bytes(b"a film", store.upload(ID, "driver.mp4"))
    return store


@pytest.fixture(autouse=True)
def signed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were signed; their credentials are the business of `test_credentials`."""
    names: list[str] = []
    monkeypatch.setattr(renderer, "mark", lambda path, _provenance, _key: names.append(path.name))
    monkeypatch.setattr(renderer, "video_provenance", lambda *_: None)
    monkeypatch.setattr(renderer, "with_inputs_shown", lambda _: None)
    return names


def render(
    store: Store,
    maker: Maker,
    options: VideoOptions | None = None,
    lease: Lease | None = None,
    driver: str = "driver.mp4",
) -> Any:
    order = JobOrder(ID, AVATAR, VideoRequest(driver, None, options or VideoOptions()))

    def load(_url: str) -> Any:
        return SimpleNamespace(avatar=None)

    return run_render(order, lease or Lease(), store=store, load=load, maker=maker, key=object.__new__(SigningKey))  # type: ignore[arg-type]


def test_the_videos_are_signed_and_stored_with_a_small_picture(store: Store, signed: list[str]) -> None:
    maker = Maker()
    facts = render(store, maker, VideoOptions(side_by_side=True, frame="crop", parts="lips", fps="30"))
    assert (facts["frames"], facts["csim"], facts["note"]) == (1, 0.9, "a note")
    assert signed == [VIDEO, SIDE_BY_SIDE]
    assert Path(store.result(ID, VIDEO)).read_bytes() == b"a video"
    assert Path(store.result(ID, SIDE_BY_SIDE)).read_bytes() == b"three pictures"
    with Image.open(io.BytesIO(Path(store.result(ID, PREVIEW)).read_bytes())) as picture:
        assert (picture.format, picture.size) == ("JPEG", (320, 160))
    assert maker.options is not None
    assert (maker.options.frame, maker.options.fps, maker.options.motion.parts) == ("crop", "30", ("lips",))


def test_speech_has_no_picture_to_show_beside_the_result(store: Store, signed: list[str]) -> None:
    store.put_bytes(b"a voice", store.upload(ID, "driver.wav"))
    render(store, Maker(), VideoOptions(side_by_side=True), driver="driver.wav")
    assert signed == [VIDEO]
    assert not Path(store.result(ID, SIDE_BY_SIDE)).exists()


def test_a_driver_that_cannot_be_used_is_named_as_the_client_knows_it(store: Store) -> None:
    with pytest.raises(ValueError, match=r"^driver: no face found$"):
        render(store, Maker(refuse="{driver}: no face found"))


def test_a_cancelled_job_stops_and_stores_no_video(store: Store) -> None:
    lease = Lease()
    lease.stop()
    with pytest.raises(JobCancelled):
        render(store, Maker(), lease=lease)
    assert not Path(store.result(ID, VIDEO)).exists()


def test_drivers_come_from_uploads_the_store_and_the_catalogue(store: Store) -> None:
    stored = "3" * 32
    assert driver_url(store, ID, VideoRequest("driver.mp4")) == store.upload(ID, "driver.mp4")
    assert driver_url(store, ID, VideoRequest("driver.csv", stored)) == store.driver(stored, "driver.csv")
    assert driver_url(store, ID, VideoRequest("talk", "builtin:talk")) == str(assets.fetch("clip_carphone"))
    with pytest.raises(NotFound, match="no such driver"):
        driver_url(store, ID, VideoRequest("x", "builtin:none"))
