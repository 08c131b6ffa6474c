"""Carries out the tasks of a run, one after another, with models that are loaded once."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

from pipelines import storage
from pipelines.assets import CacheError
from pipelines.media.video import probe
from pipelines.one_line import hide_credentials, one_line
from pipelines.provenance.film_stamp import FilmStamp
from pipelines.provenance.marks import mark, marked
from pipelines.provenance.signing_key import SigningFiles, load_signing_key
from serving.batch.avatar_maker import AvatarMaker, LoadedAvatar, VideoFiles
from serving.batch.driver_tracks import OnStep
from serving.batch.inputs import Input, error_line
from serving.batch.items import AvatarSource, AvatarTask, MosaicTask, Outcome, Task, VideoTask, now
from serving.batch.marking import item_provenance, mosaic_provenance, with_inputs_shown
from serving.batch.results.contact_page import poster_name, write_poster
from serving.batch.results.mosaic import write_mosaic
from serving.batch.results.sidecars import Quality, Sidecar, SidecarSource, write_sidecar
from serving.batch.workspace import Workspace
from training.animation.motion.formats import is_film

_NUM_CACHED_AVATARS = 4

MakeMaker = Callable[[Workspace], AvatarMaker]


class Worker:
    """Makes avatars, videos and mosaics below the workspace's folder. Keeps the last avatars in memory."""

    def __init__(
        self, make_maker: MakeMaker, workspace: Workspace, *, side_by_side: bool, signing: SigningFiles | None = None
    ) -> None:
        """`signing` names what signs the results; None: what the environment names.

        Raises:
            FileNotFoundError, ValueError: the maker cannot work in this process, or the results cannot be signed.
        """
        self._workspace = workspace
        self._key = load_signing_key(signing)
        self._maker = make_maker(workspace)
        self._maker.check()
        self._side_by_side = side_by_side
        self._avatars: OrderedDict[AvatarSource, LoadedAvatar] = OrderedDict()

    def perform(self, task: Task, on_step: OnStep) -> Outcome:
        """Carry out a task. Whatever its inputs do wrong becomes the outcome's reason.

        Raises:
            ImportError, CacheError: a package is missing, or pretrained files cannot be stored, which no other task
                would survive either.
        """
        started = now()
        try:
            sidecar = self._perform(task, on_step)
        except (ImportError, CacheError):
            raise
        except Exception as error:  # noqa: BLE001 - one item must not end a run over thousands
            return Outcome(started, now(), reason=self._reason(task, error))
        return Outcome(started, now(), sidecar=sidecar)

    def _perform(self, task: Task, on_step: OnStep) -> Sidecar | None:
        match task:
            case AvatarTask():
                self._avatar(task.source, on_step)
                return None
            case VideoTask():
                return self._make_video(task, on_step)
            case MosaicTask():
                return self._make_mosaic(task, on_step)

    def _reason(self, task: Task, error: Exception) -> str:
        """Return the error on one line that names the input."""
        known = isinstance(error, ValueError | OSError)
        reason = error_line(error) if known else f"{type(error).__name__}: {error_line(error)}"
        match task:
            case AvatarTask():
                return self._about(task.source.input, reason)
            case VideoTask():
                return self._about(task.item.driver, reason)
            case MosaicTask():
                return reason

    def _about(self, item: Input, reason: str) -> str:
        if not storage.is_local(item.url):
            reason = self._workspace.with_urls(reason)
        named = one_line(item.url)
        return reason if named in reason else f"{named}: {reason}"

    def _avatar(self, source: AvatarSource, on_step: OnStep) -> LoadedAvatar:
        avatar = self._avatars.get(source) or self._maker.avatar(source, on_step)
        self._avatars[source] = avatar
        self._avatars.move_to_end(source)
        while len(self._avatars) > _NUM_CACHED_AVATARS:
            self._avatars.popitem(last=False)
        return avatar

    def _make_video(self, task: VideoTask, on_frame: OnStep) -> Sidecar:
        """Render a video, its poster and its sidecar."""
        from training.animation.render import GENERATED_BY  # loads torch, which `--help` need not

        item = task.item
        avatar = self._avatar(item.source, lambda _done, _total: None)
        # The sidecar of an earlier video must not vouch for a half-written new one.
        storage.remove(self._sidecar_url(item.name))
        video, comparison = f"{item.name}.mp4", f"{item.name}.side-by-side.mp4"
        compares = self._side_by_side and is_film(item.driver.url)  # what else has no picture to show
        files = (video, comparison) if compares else (video,)
        side_by_side = self._workspace.output(comparison) if compares else None
        out = self._workspace.output(video)
        paths = VideoFiles(self._workspace.input(item.driver.url), item.driver.sha256, out, side_by_side)
        report = self._maker.render(avatar, paths, item.options, on_frame)
        provenance = item_provenance(item, avatar, self._workspace)
        poster = poster_name(item.name)
        sign = partial(marked, name=poster, provenance=provenance, key=self._key)
        write_poster(out, storage.join(self._workspace.out, poster), sign)
        mark(out, provenance, self._key)
        if side_by_side is not None:
            mark(side_by_side, with_inputs_shown(provenance), self._key)
        sidecar = Sidecar(
            key=task.key,
            generated_by=GENERATED_BY,
            files=files,
            sources=(_recorded(item.source.input),),
            drivers=(_recorded(item.driver),),
            model=avatar.base_version,
            options=asdict(item.options),
            frames=report.frames,
            fps=str(report.fps),
            width=report.width,
            height=report.height,
            has_audio=report.has_audio,
            seconds=round(report.seconds, 3),
            network_ms_per_frame=round(report.network_ms_per_frame, 3),
            portraits_used=report.portraits_used,
            openings_used=report.openings_used,
            notes=tuple(report.notes),
            quality=Quality(
                csim=report.csim,
                bent_share=round(report.bent_frames / report.driver_frames, 4),
                missing_share=round(report.frames_without_face / report.driver_frames, 4),
            ),
        )
        self._publish(item.name, sidecar)
        return sidecar

    def _make_mosaic(self, task: MosaicTask, on_frame: OnStep) -> Sidecar:
        from training.animation.render import GENERATED_BY

        started, comment = (
            time.perf_counter(),
            f"Generated by {GENERATED_BY}: synthetic animations of a still portrait.",
        )
        out = self._workspace.output(f"{task.name}.mp4")
        parts = [f"{name}.mp4" for name, _ in task.videos]
        first = task.videos[0][1]
        stamp = FilmStamp(first.model, first.options.get("watermark", "luma"))  # labels are in the videos
        videos = [self._workspace.result(part) for part in parts]
        write_mosaic(videos, out, comment=comment, stamp=stamp, on_frame=on_frame)
        mark(out, mosaic_provenance([sidecar for _, sidecar in task.videos]), self._key)
        for part in parts:
            self._workspace.discard(part)
        info = probe(out)
        sidecars = [sidecar for _, sidecar in task.videos]
        sidecar = Sidecar(
            key=task.key,
            generated_by=GENERATED_BY,
            files=(out.name,),
            sources=sidecars[0].sources,
            drivers=tuple(driver for video in sidecars for driver in video.drivers),
            model=sidecars[0].model,
            options=sidecars[0].options,
            frames=info.num_frames,
            fps=str(info.fps),
            width=info.width,
            height=info.height,
            has_audio=info.has_audio,
            seconds=round(time.perf_counter() - started, 3),
        )
        self._publish(task.name, sidecar)
        return sidecar

    def _publish(self, name: str, sidecar: Sidecar) -> None:
        """Write the videos first, then the sidecar, whose presence marks them as complete."""
        for file in sidecar.files:
            self._workspace.publish(file)
        write_sidecar(self._sidecar_url(name), sidecar)

    def _sidecar_url(self, name: str) -> str:
        return storage.join(self._workspace.out, f"{name}.json")


def _recorded(item: Input) -> SidecarSource:
    return SidecarSource(hide_credentials(item.url), item.sha256)
