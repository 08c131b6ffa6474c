"""Render every source with every driver: reuse finished videos, make missing ones, report failures, write sidecars."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from rich.progress import Progress, TaskID

from pipelines import cli, storage
from pipelines.media.video import probe
from serving.batch.avatar_maker import AvatarMaker, OnStep, VideoFiles
from serving.batch.inputs import Input, error_line
from serving.batch.mosaic import write_mosaic
from serving.batch.sidecars import Sidecar, SidecarSource, cache_key, find_done, write_sidecar
from serving.batch.workspace import Workspace
from training.animation.render import COMMENT, GENERATED_BY

if TYPE_CHECKING:
    from training.animation.render import RenderOptions, RenderReport
    from training.avatars.avatar import Avatar

_LABELS = {".side-by-side.mp4": "side by side", ".mosaic.mp4": "mosaic"}


@dataclass
class BatchRun:
    """One run over sources x drivers, with its results and counts."""

    workspace: Workspace
    maker: AvatarMaker
    options: RenderOptions
    progress: Progress
    side_by_side: bool = True
    made: list[cli.Artefact] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    """Keys are lines for the user, in order, without repeats: a bad driver is reported once, not for every source."""
    num_rendered: int = 0
    num_reused: int = 0
    num_failed: int = 0

    def animate(self, sources: Sequence[Input], drivers: Sequence[Input], *, mosaic: bool) -> None:
        """Render every source with every driver that can be decoded."""
        usable = [driver for driver in drivers if self._is_usable(driver, len(sources))]
        overall = self.progress.add_task("videos", total=len(sources) * len(usable))
        for source in sources:
            videos = self._animate_source(source, usable, overall)
            if mosaic and len(videos) > 1:
                self._make_mosaic(source, videos)

    def skip(self, problem: str, num_videos: int = 1) -> None:
        """Report `problem`, which makes `num_videos` videos impossible."""
        self.notes[problem] = None
        self.num_failed += num_videos

    def result(self, seconds: float) -> cli.CommandResult:
        """Return the results and counts so far; not ok when there is no video."""
        counts = {"rendered": self.num_rendered, "reused": self.num_reused, "failed": self.num_failed}
        usable = self.num_rendered + self.num_reused > 0
        return cli.CommandResult(tuple(self.made), counts, seconds, ok=usable, notes=tuple(self.notes))

    def _is_usable(self, driver: Input, num_sources: int) -> bool:
        try:
            probe(self.workspace.input(driver.url))
        except (ValueError, OSError) as error:
            self.skip(_about(driver, error), num_sources)
            return False
        return True

    def _animate_source(self, source: Input, drivers: Sequence[Input], overall: TaskID) -> dict[str, Sidecar]:
        """Return the sidecars of one source's videos by name. Its avatar is loaded only when a video is missing."""
        try:
            keys = {driver: self._key(source, driver) for driver in drivers}
            found = {driver: find_done(self.workspace.out, _name(source, driver), keys[driver]) for driver in drivers}
            missing = [driver for driver in drivers if found[driver] is None]
            avatar = self._avatar(source) if missing else None
        except (ValueError, OSError) as error:
            self.skip(_about(source, error), len(drivers))
            self.progress.advance(overall, len(drivers))
            return {}
        videos: dict[str, Sidecar] = {}
        for driver in drivers:
            sidecar = found[driver]
            if sidecar is not None:
                self.num_reused += 1
            elif avatar is not None:
                sidecar = self._render(avatar, source, driver, keys[driver])
            if sidecar is not None:
                videos[_name(source, driver)] = sidecar
                self._add_made(sidecar)
            self.progress.advance(overall)
        return videos

    def _key(self, source: Input, driver: Input) -> str:
        """Return a hash of everything that decides a video; a video with another key is rendered again."""
        options = asdict(self.options)
        return cache_key(source.sha256, driver.sha256, self.maker.version(source), options, str(self.side_by_side))

    def _avatar(self, source: Input) -> Avatar:
        with self._task(f"avatar {source.name}") as on_step:
            return self.maker.avatar(source, on_step)

    def _render(self, avatar: Avatar, source: Input, driver: Input, key: str) -> Sidecar | None:
        """Render one video and write its sidecar; on failure, report it and return None."""
        name = _name(source, driver)
        video, comparison = f"{name}.mp4", f"{name}.side-by-side.mp4"
        files = (video, comparison) if self.side_by_side else (video,)
        side_by_side = self.workspace.output(comparison) if self.side_by_side else None
        paths = VideoFiles(self.workspace.input(driver.url), self.workspace.output(video), side_by_side)
        try:
            with self._task(name) as on_frame:
                report = self.maker.render(avatar, paths, self.options, on_frame)
            sidecar = Sidecar(
                key=key,
                generated_by=GENERATED_BY,
                files=files,
                sources=(SidecarSource(source.url, source.sha256),),
                drivers=(SidecarSource(driver.url, driver.sha256),),
                model=avatar.base_version,
                options=asdict(self.options),
                frames=report.frames,
                fps=str(report.fps),
                width=report.width,
                height=report.height,
                has_audio=report.has_audio,
                seconds=round(report.seconds, 3),
                network_ms_per_frame=round(report.network_ms_per_frame, 3),
                notes=_notes(report),
            )
            self._publish(name, sidecar)
        except (ValueError, OSError) as error:
            self.skip(_about(driver, error))
            return None
        self.num_rendered += 1
        for note in sidecar.notes:
            self.notes[f"{name}: {note}"] = None
        return sidecar

    def _make_mosaic(self, source: Input, videos: dict[str, Sidecar]) -> None:
        name = f"{source.name}.mosaic"
        key = cache_key(*(sidecar.key for sidecar in videos.values()))
        done = find_done(self.workspace.out, name, key)
        if done is not None:
            self._add_made(done)
            return
        started = time.perf_counter()
        out = self.workspace.output(f"{name}.mp4")
        try:
            parts = [self.workspace.result(f"{video}.mp4") for video in videos]
            with self._task(name) as on_frame:
                write_mosaic(parts, out, comment=COMMENT, on_frame=on_frame)
            info = probe(out)
            first = next(iter(videos.values()))
            sidecar = Sidecar(
                key=key,
                generated_by=GENERATED_BY,
                files=(out.name,),
                sources=first.sources,
                drivers=tuple(driver for video in videos.values() for driver in video.drivers),
                model=first.model,
                options=first.options,
                frames=info.num_frames,
                fps=str(info.fps),
                width=info.width,
                height=info.height,
                has_audio=info.has_audio,
                seconds=round(time.perf_counter() - started, 3),
            )
            self._publish(name, sidecar)
        except (ValueError, OSError) as error:
            self.notes[f"{name}: {error_line(error)}"] = None
        else:
            self._add_made(sidecar)

    def _publish(self, name: str, sidecar: Sidecar) -> None:
        """Write the videos first, then the sidecar, whose presence marks them as complete."""
        for file in sidecar.files:
            self.workspace.publish(file)
        write_sidecar(storage.join(self.workspace.out, f"{name}.json"), sidecar)

    def _add_made(self, sidecar: Sidecar) -> None:
        for file in sidecar.files:
            what = next((label for ending, label in _LABELS.items() if file.endswith(ending)), "video")
            self.made.append(cli.Artefact(what, storage.join(self.workspace.out, file)))

    @contextmanager
    def _task(self, title: str) -> Iterator[OnStep]:
        """Show a progress bar for one task."""
        task = self.progress.add_task(title, total=None)
        try:
            yield lambda done, total: self.progress.update(task, completed=done, total=total)
        finally:
            self.progress.remove_task(task)


def _name(source: Input, driver: Input) -> str:
    return f"{source.name}--{driver.name}"


def _about(item: Input, error: BaseException) -> str:
    reason = error_line(error)
    return reason if item.url in reason else f"{item.url}: {reason}"


def _notes(report: RenderReport) -> tuple[str, ...]:
    missing = report.frames_without_face
    return (f"no face in {missing} of {report.frames} driver frames: the motion there is filled in",) if missing else ()
