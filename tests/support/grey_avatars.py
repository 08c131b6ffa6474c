"""Batch animation in this process with an avatar maker that writes grey frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import cli
from pipelines.media.video import VideoWriter, probe
from pipelines.storage.parquet import read_table
from serving.batch.avatar_maker import LoadedAvatar, VideoFiles
from serving.batch.batch_run import BatchRun
from serving.batch.driver_tracks import OnStep
from serving.batch.inputs import find_drivers, find_sources
from serving.batch.items import AvatarSource, Item, every_pair
from serving.batch.pool import ThisProcess
from serving.batch.results.report import Report
from serving.batch.results.summary import BatchResult, result
from serving.batch.worker import Worker
from serving.batch.workspace import open_workspace
from training.animation.render import RenderOptions, RenderReport
from training.avatars.avatar import Avatar
from training.checkpoints.model_lineage import ModelLineage


def grey_avatar(base_version: str) -> Avatar:
    """An avatar without networks and pictures."""
    avatar = object.__new__(Avatar)
    facts = {"portraits": (), "lineage": ModelLineage(), "consent_sha256": None}
    avatar.__dict__.update(facts, base_version=base_version)
    return avatar


@dataclass
class GreyAvatarMaker:
    """Writes two grey frames per video; raises ValueError for the sources and drivers named bad."""

    bad_sources: Sequence[str] = ()
    bad_drivers: Sequence[str] = ()
    base: str = "base-1"
    avatars_made: list[str] = field(default_factory=list)
    rendered: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Works everywhere."""

    def version(self, source: AvatarSource) -> str:
        return self.base

    def avatar(self, source: AvatarSource, on_step: OnStep) -> Any:
        if source.input.name in self.bad_sources:
            raise ValueError(f"{source.input.url}: no face found")
        self.avatars_made.append(source.input.name)
        return LoadedAvatar(grey_avatar(self.base))

    def render(self, avatar: Any, files: VideoFiles, options: RenderOptions, on_frame: OnStep) -> RenderReport:
        probe(files.driver)
        if files.driver.stem in self.bad_drivers:
            raise ValueError(f"{files.driver}: no face in any frame")
        self.rendered.append(files.out.name)
        for out in filter(None, (files.out, files.side_by_side)):
            with VideoWriter(out, width=32, height=32, fps=Fraction(25)) as writer:
                for done in (1, 2):
                    writer.write(np.full((32, 32, 3), 100 * done, np.uint8))
                    on_frame(done, 2)
        return RenderReport(
            2, Fraction(25), 32, 32, False, 1, 0.5, 3.0, {"a.jpg": 1.0}, 2, notes=("no face in 1 of 2 driver frames",)
        )


def rows(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((out / "report").iterdir()) for row in read_table(str(path)).to_pylist()]


def animate(
    inputs: Path, maker: GreyAvatarMaker, out: str, *, drivers: Sequence[str] = ("smile.mp4", "talk.mp4"), **more: Any
) -> BatchResult:
    sources = find_sources([str(inputs / "anna.jpg"), str(inputs / "leo.jpg")]).inputs
    found = find_drivers([str(inputs / name) for name in drivers]).inputs
    change: Callable[[Sequence[Item]], Sequence[Item]] = more.pop("change", lambda items: items)
    items = change(every_pair(sources, found, more.pop("options", RenderOptions()), None))
    report = Report(out)
    with open_workspace(out) as workspace, cli.progress() as progress:
        batch = BatchRun(out, maker, report, progress, **more)

        @contextmanager
        def this_process(num_tasks: int) -> Iterator[ThisProcess]:
            worker = Worker(lambda workspace: maker, workspace, side_by_side=batch.side_by_side)
            yield ThisProcess(worker, progress, report.flush_if_due)

        batch.animate(items, this_process)
        report.flush()
        return result(out, report.rows, batch.sidecars, (), tuple(batch.notes), 1.0)
