"""Previews of pairs: a picture with warnings for each, in this process, and no video."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from PIL import Image
from rich.progress import Progress

from pipelines import storage
from serving.batch.avatar_maker import LoadedAvatar, ModelAvatarMaker
from serving.batch.inputs import error_line
from serving.batch.items import AvatarSource, Item
from serving.batch.results.preview_page import PairPreview, preview_name
from serving.batch.workspace import Workspace

if TYPE_CHECKING:
    from training.animation.preview.driver_sample import DriverSample

_QUALITY = 85
_Result = TypeVar("_Result")


def make_previews(
    items: Sequence[Item], maker: ModelAvatarMaker, workspace: Workspace, progress: Progress
) -> tuple[PairPreview, ...]:
    """Write the preview of each pair to `previews/` of the workspace's folder."""
    previewer = _Previewer(maker, workspace)
    return tuple(previewer.preview(item) for item in progress.track(items, description="previews"))


class _Previewer:
    """Keeps the last avatar, and the samples of all drivers: a megabyte each."""

    def __init__(self, maker: ModelAvatarMaker, workspace: Workspace) -> None:
        self._maker, self._workspace = maker, workspace
        self._avatar: tuple[AvatarSource, LoadedAvatar | str] | None = None
        self._samples: dict[tuple[str, str], DriverSample | str] = {}

    def preview(self, item: Item) -> PairPreview:
        try:
            avatar = self._draft(item.source)
            sample = self._sample(item, avatar)
            preview = self._maker.preview(avatar, sample, item.options)
            sink = io.BytesIO()
            Image.fromarray(preview.picture).save(sink, "WEBP", quality=_QUALITY)
            storage.write_bytes(storage.join(self._workspace.out, preview_name(item.name)), sink.getvalue())
        except (ValueError, OSError) as error:
            return PairPreview(item.name, reason=self._workspace.with_urls(error_line(error)))
        return PairPreview(item.name, preview.warnings)

    def _draft(self, source: AvatarSource) -> LoadedAvatar:
        if self._avatar is None or self._avatar[0] != source:
            try:
                made: LoadedAvatar | str = self._maker.draft(source)
            except (ValueError, OSError) as error:
                made = error_line(error)
            self._avatar = source, made
        return _made(self._avatar[1])

    def _sample(self, item: Item, avatar: LoadedAvatar) -> DriverSample:
        key = item.driver.sha256, item.options.driver_face
        if key not in self._samples:
            try:
                path = self._workspace.input(item.driver.url)
                self._samples[key] = self._maker.sample(avatar, path, item.options)
            except (ValueError, OSError) as error:
                self._samples[key] = error_line(error)
        return _made(self._samples[key])


def _made(result: _Result | str) -> _Result:
    if isinstance(result, str):
        raise ValueError(result)
    return result
