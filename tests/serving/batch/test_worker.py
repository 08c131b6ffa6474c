"""One worker: what it keeps in memory, and what it says when a task fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from grey_avatars import grey_avatar

from pipelines import storage
from pipelines.assets import CacheError
from serving.batch.avatar_maker import LoadedAvatar, VideoFiles
from serving.batch.driver_tracks import OnStep
from serving.batch.inputs import Input
from serving.batch.items import AvatarSource, AvatarTask, Item, VideoTask
from serving.batch.worker import Worker
from serving.batch.workspace import Workspace
from training.animation.render import RenderOptions, RenderReport


class FailingMaker:
    """Makes avatars, and fails to render with `error`."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.made: list[str] = []

    def check(self) -> None:
        """Works everywhere."""

    def version(self, source: AvatarSource) -> str:
        return "1"

    def avatar(self, source: AvatarSource, on_step: OnStep) -> LoadedAvatar:
        self.made.append(source.input.name)
        return LoadedAvatar(grey_avatar("1"))

    def render(self, avatar: Any, files: VideoFiles, options: RenderOptions, on_frame: OnStep) -> RenderReport:
        if self.error is None:
            raise ValueError(f"{files.driver}: no face")
        raise self.error


def source(name: str) -> AvatarSource:
    return AvatarSource(Input("picture", f"/{name}.jpg", name, name))


def task(driver: str) -> VideoTask:
    return VideoTask(Item("v", source("ann"), Input("driver", driver, "talk", "sha"), RenderOptions()), "key")


def nothing(done: int, total: int) -> None:
    """Shows no progress."""


def test_the_last_four_avatars_stay_in_memory(tmp_path: Path) -> None:
    maker = FailingMaker()
    worker = Worker(lambda workspace: maker, Workspace(str(tmp_path), tmp_path), side_by_side=False)
    for name in ("a", "b", "c", "d", "a", "e", "a", "b"):
        assert worker.perform(AvatarTask(source(name)), nothing).ok
    assert maker.made == ["a", "b", "c", "d", "e", "b"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("/d/talk.mp4: no face\nin any frame"), "/d/talk.mp4: no face in any frame"),
        (ValueError("too dark"), "/d/talk.mp4: too dark"),
        (OSError(28, "No space left on device"), "/d/talk.mp4: [Errno 28] No space left on device"),
        (RuntimeError("CUDA out of memory"), "/d/talk.mp4: RuntimeError: CUDA out of memory"),
    ],
)
def test_a_failure_is_one_line_that_names_the_input(tmp_path: Path, error: Exception, reason: str) -> None:
    worker = Worker(lambda workspace: FailingMaker(error), Workspace(str(tmp_path), tmp_path), side_by_side=False)
    assert worker.perform(task("/d/talk.mp4"), nothing).reason == reason


def test_a_remote_input_is_named_by_its_url(tmp_path: Path) -> None:
    storage.write_bytes("memory://drivers/talk.mp4", b"x")
    worker = Worker(lambda workspace: FailingMaker(), Workspace(str(tmp_path), tmp_path), side_by_side=False)
    outcome = worker.perform(task("memory://drivers/talk.mp4"), nothing)
    assert outcome.reason == "memory://drivers/talk.mp4: no face"


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'x'"), CacheError("cannot be written")])
def test_a_missing_package_or_cache_ends_the_run(tmp_path: Path, error: Exception) -> None:
    worker = Worker(lambda workspace: FailingMaker(error), Workspace(str(tmp_path), tmp_path), side_by_side=False)
    with pytest.raises(type(error)):
        worker.perform(task("/d/talk.mp4"), nothing)


def test_the_sidecar_of_an_earlier_video_goes_before_the_new_one_is_written(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text("{}")
    worker = Worker(lambda workspace: FailingMaker(), Workspace(str(tmp_path), tmp_path), side_by_side=False)
    assert not worker.perform(task("/d/talk.mp4"), nothing).ok
    assert not (tmp_path / "v.json").exists()
