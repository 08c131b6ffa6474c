"""The service's HTTP front end on a real port, with a thread in place of the workers that settles its jobs."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import uvicorn
from PIL import Image

from pipelines.media.video import VideoWriter
from serving.service.config import QueueRules, UploadLimits
from serving.service.front_end import listen
from serving.service.http.access import Access
from serving.service.http.api import create_api
from serving.service.http.service import Service
from serving.service.state.audit import AuditLog
from serving.service.state.database import Database
from serving.service.state.drivers import Drivers
from serving.service.state.job_queue import Job, JobQueue
from serving.service.state.keys import ApiKeys
from serving.service.state.requests import AvatarRequest, VideoRequest
from serving.service.store import PREVIEW, Store

STEPS = 8
"""Steps of an avatar, frames of a video; between two of them `step_s` passes."""


class PageService:
    """A running service at `url`. While `hold` is set, no job is taken from the queue."""

    def __init__(self, folder: Path, *, key: str | None = None, step_s: float = 0.1, consent: bool = False) -> None:
        database = Database(f"sqlite:///{folder}/data/jobs.sqlite3")
        self.jobs, self.step_s = JobQueue(database, QueueRules()), step_s
        self.service = Service(
            self.jobs,
            Drivers(database),
            AuditLog(database),
            Store.create(str(folder / "data")),
            Access(key, ApiKeys(database), key is None, ("127.0.0.1",)),
            UploadLimits(),
            consent,
            draw_still=draw_still,
        )
        self._made = folder / "made.mp4"
        with VideoWriter(self._made, width=96, height=128, fps=Fraction(25)) as writer:
            for level in np.linspace(0, 250, 50):
                writer.write(np.full((128, 96, 3), level, np.uint8))
        self.hold = threading.Event()
        self._stopping = threading.Event()
        self._socket = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(
            uvicorn.Config(create_api(self.service), log_level="error", timeout_graceful_shutdown=1)
        )
        self._threads = [
            threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True),
            threading.Thread(target=self._settle_all, daemon=True),
        ]

    def __enter__(self) -> PageService:
        for thread in self._threads:
            thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.should_exit = True
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._socket.close()

    def add_video(self, avatar_id: str, job_id: str) -> None:
        """Make an avatar of a grey picture, and a video of it, at once."""
        made = self.jobs.reserve, self.jobs.submit
        for kind, one, request in (
            ("avatar", avatar_id, AvatarRequest(("picture-01.png",))),
            ("video", job_id, VideoRequest("driver.json")),
        ):
            made[0](one, avatar_id, kind)  # type: ignore[arg-type]
            if kind == "avatar":
                picture = _picture(self._made.parent / "picture.png", 120)
                self.service.store.put(picture, self.service.store.upload(one, "picture-01.png"))
            made[1](one, request)
            while self.jobs.get(one).state != "done":
                time.sleep(0.02)

    def _settle_all(self) -> None:
        while not self._stopping.wait(0.05):
            if self.hold.is_set():
                continue
            job = self.jobs.claim("avatar", "test") or self.jobs.claim("video", "test")
            if job is not None:
                self._settle(job)

    def _settle(self, job: Job) -> None:
        store = self.service.store
        for step in range(1, STEPS + 1):
            if job.request.kind == "video" and step == 1:
                store.put(_picture(self._made.parent / "preview.jpg", 90), store.result(job.id, PREVIEW))
            avatar = job.request.kind == "avatar"  # half of a video's progress is that of following its driver
            progress = (step, STEPS, "fine-tuning") if avatar else (STEPS + step, 2 * STEPS, "rendering")
            if not self.jobs.renew(job, *progress):
                return
            time.sleep(self.step_s)
        if job.request.kind == "avatar":
            with store.local(store.upload(job.id, job.request.pictures[0])) as path, Image.open(path) as picture:
                picture.save(self._made.parent / "portrait.png")
            store.put(self._made.parent / "portrait.png", f"{store.avatar(job.avatar_id)}/portrait-0.png")
            crop = {"crop_left": 0.2, "crop_top": 0.1, "crop_width": 0.6, "crop_height": 0.4}
            self.jobs.finish(job, {"num_steps": STEPS, "base_model": "test", **crop})
        else:
            store.put(self._made, store.result(job.id))
            self.jobs.finish(job, {"frames": 50, "fps": "25", "width": 96, "height": 128})


async def draw_still(_avatar_id: str, sliders: Mapping[str, float], _max_size: int) -> bytes:
    """A grey picture, the brighter the more the face smiles."""
    sink = io.BytesIO()
    Image.new("L", (64, 96), round(120 + 100 * sliders.get("smile", 0.0))).save(sink, "JPEG")
    return sink.getvalue()


def _picture(path: Path, level: int) -> Path:
    Image.new("L", (96, 128), level).save(path)
    return path
