"""Previews of pairs: a picture with warnings for each, in this process, and no video."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from PIL import Image
from rich.progress import Progress

from pipelines import storage
from pipelines.provenance.marks import Provenance, marked
from pipelines.provenance.signing_key import SigningKey
from serving.batch.avatar_maker import LoadedAvatar, ModelAvatarMaker
from serving.batch.inputs import error_line
from serving.batch.items import AvatarSource, Item
from serving.batch.marking import item_provenance, with_inputs_shown
from serving.batch.results.preview_page import PairPreview, preview_name
from serving.batch.workspace import Workspace

if TYPE_CHECKING:
    from training.animation.preview.driver_sample import DriverSample
    from training.animation.preview.preview import Preview, PreviewPlan

_QUALITY = 85
_PAIRS_AT_ONCE = 8
_Result = TypeVar("_Result")


def write_previews(
    items: Sequence[Item], maker: ModelAvatarMaker, workspace: Workspace, progress: Progress, key: SigningKey
) -> tuple[PairPreview, ...]:
    """Write the preview of each pair to `previews/` of the workspace's folder."""
    previewer, written = _Previewer(maker, workspace, key), []
    bar = progress.add_task("previews", total=len(items))
    for first in range(0, len(items), _PAIRS_AT_ONCE):
        written += previewer.previews(items[first : first + _PAIRS_AT_ONCE])
        progress.update(bar, completed=len(written))
    return tuple(written)


class _Previewer:
    """Keeps the last avatar, and the samples of all drivers: a megabyte each."""

    def __init__(self, maker: ModelAvatarMaker, workspace: Workspace, key: SigningKey) -> None:
        self._maker, self._workspace, self._key = maker, workspace, key
        self._avatar: tuple[AvatarSource, LoadedAvatar | str] | None = None
        self._provenance: dict[str, Provenance] = {}
        """Of the pairs that are drawn together, by the items' names: the avatar is gone when they are written."""
        self._samples: dict[tuple[str, str], DriverSample | str] = {}

    def previews(self, items: Sequence[Item]) -> list[PairPreview]:
        """Draw a few pairs together, and write their pictures."""
        from training.animation.preview.preview import make_previews

        self._provenance.clear()
        plans = [self._plan(item) for item in items]
        made = iter(make_previews([plan for plan in plans if not isinstance(plan, str)]))
        return [
            PairPreview(item.name, reason=self._workspace.with_urls(plan))
            if isinstance(plan, str)
            else self._write(item, next(made))
            for item, plan in zip(items, plans, strict=True)
        ]

    def _plan(self, item: Item) -> PreviewPlan | str:
        """Return what to draw, or why there is nothing."""
        try:
            avatar = self._draft(item.source)
            provenance = with_inputs_shown(item_provenance(item, avatar, self._workspace))
            self._provenance[item.name] = replace(provenance, command=f"{provenance.command} --preview")
            return self._maker.plan(avatar, self._sample(item, avatar), item.options)
        except (ValueError, OSError) as error:
            return error_line(error)

    def _write(self, item: Item, preview: Preview) -> PairPreview:
        sink = io.BytesIO()
        Image.fromarray(preview.picture).save(sink, "WEBP", quality=_QUALITY)
        name = preview_name(item.name)
        try:
            signed = marked(sink.getvalue(), name, self._provenance[item.name], self._key)
            storage.write_bytes(storage.join(self._workspace.out, name), signed)
        except (OSError, ValueError) as error:
            return PairPreview(item.name, reason=error_line(error))
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
