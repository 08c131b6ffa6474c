"""Credentials of what a run writes: its inputs by name and hash, its model, and the command that makes it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import storage
from pipelines.media.container import VIDEO_SUFFIXES
from pipelines.provenance.marks import Ingredient, Provenance
from serving.batch.items import FILM_PARTS, Item
from serving.batch.results.sidecars import Sidecar, SidecarSource

if TYPE_CHECKING:
    from serving.batch.avatar_maker import LoadedAvatar
    from serving.batch.workspace import Workspace

_NO_FLAGS = {"crf", "neutral_frame"}  # options that `animate` has no flag for


def item_provenance(item: Item, avatar: LoadedAvatar, workspace: Workspace) -> Provenance:
    """Return how a pair's video is made."""
    from training.avatars.provenance import portraits_of, provenance_of

    source, options = item.source.input, asdict(item.options)
    if source.kind == "film":
        film = Ingredient("film", storage.name(source.url), source.sha256, workspace.input(source.url), is_shown=True)
        sources: tuple[Ingredient, ...] = (film,)
    else:
        files = {source.sha256: workspace.input(source.url)} if source.kind == "picture" else {}
        sources = portraits_of(avatar.avatar, files)
    driver_name = storage.name(item.driver.url)
    driver = Ingredient("driver", driver_name, item.driver.sha256, workspace.input(item.driver.url))
    command = animate_command(
        storage.name(source.url), [driver_name], options, is_film=source.kind == "film", more=avatar.flags
    )
    return provenance_of(avatar.avatar, (*sources, driver), options, command)


def with_inputs_shown(provenance: Provenance) -> Provenance:
    """Return the provenance of a video that shows its inputs beside the result."""
    return replace(provenance, ingredients=tuple(replace(each, is_shown=True) for each in provenance.ingredients))


def mosaic_provenance(videos: Sequence[Sidecar]) -> Provenance:
    """Return how a row of finished videos of one source is made."""
    from training.checkpoints.model_lineage import known_lineage

    first = videos[0]
    source, drivers = first.sources[0], [driver for video in videos for driver in video.drivers]
    is_film = _is_film(source)
    lineage = known_lineage(first.model)
    return Provenance(
        (_ingredient(source), *(Ingredient("driver", storage.name(each.path), each.sha256) for each in drivers)),
        model=first.model,
        mlflow_run=lineage.mlflow_run,
        dataset_digest=lineage.dataset_digest,
        options=first.options,
        command=animate_command(
            storage.name(source.path), [storage.name(each.path) for each in drivers], first.options, is_film=is_film
        ),
    )


def _ingredient(source: SidecarSource) -> Ingredient:
    is_film = _is_film(source)
    return Ingredient("film" if is_film else "portrait", storage.name(source.path), source.sha256, is_shown=is_film)


def _is_film(source: SidecarSource) -> bool:
    return Path(storage.name(source.path)).suffix.lower() in VIDEO_SUFFIXES


def animate_command(
    source: str,
    drivers: Sequence[str],
    options: Mapping[str, Any],
    *,
    is_film: bool = False,
    more: Sequence[str] = (),
) -> str:
    """Return the `sfumato animate` that makes videos again, for a shell: file names and what is no default.

    Args:
        options: fields of `RenderOptions`, as dictionaries.
        more: further flags, such as those of the model.
    """
    words = ["sfumato", "animate", "-s", source, *(word for name in drivers for word in ("-d", name)), "-o", "videos"]
    return shlex.join([*words, *more, *_flags(options, is_film)])


def _flags(options: Mapping[str, Any], is_film: bool) -> Iterator[str]:
    from training.animation.render import RenderOptions

    defaults = asdict(RenderOptions())
    usual = {**defaults, **defaults["motion"], **({"parts": FILM_PARTS} if is_film else {})}
    given = {**options, **options.get("motion", {})}
    for name, value in given.items():
        if name == "motion" or name in _NO_FLAGS or name not in usual or _plain(value) == _plain(usual[name]):
            continue
        if name == "absolute":
            yield from ("--motion", "absolute")
        elif isinstance(value, bool):
            yield f"--{'' if value else 'no-'}{name.replace('_', '-')}"
        else:
            yield from (f"--{name.replace('_', '-')}", ",".join(value) if name == "parts" else str(value))


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, list | tuple) else value
