"""`sfumato inspect ROOT -o sheet.html`: write an HTML page that previews a data set."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

import tyro

from pipelines import storage
from pipelines.cli import Artefact, CommandResult
from pipelines.curation import preview_sample
from pipelines.curation.preview_page import render
from pipelines.dataset.manifest import read_manifest

_MAX_CLIPS = 200


@dataclass(frozen=True)
class Options:
    """Write a page that previews a data set: faces with landmarks, rejected clips with reasons, pose statistics."""

    root: tyro.conf.Positional[str]
    """The data set: a path or URL."""
    out: Annotated[str, tyro.conf.arg(aliases=["-o"], metavar="OUT")] = "sheet.html"
    """Path or URL of the page: one self-contained HTML file."""
    clips: int = 60
    """Number of clips shown, spread over identities."""
    seed: int = 0
    """Seed for the choice of clips and shards."""

    def __post_init__(self) -> None:
        if not 1 <= self.clips <= _MAX_CLIPS:
            raise ValueError(f"clips must lie in [1, {_MAX_CLIPS}], got {self.clips}: a page has to stay light")


def run(options: Options) -> CommandResult:
    """Sample the data set, render the page and write it.

    Raises:
        FileNotFoundError: ROOT does not exist, or a file of the data set is missing.
        ValueError: ROOT is not a data set, a file of it is damaged, or OUT lies inside it.
    """
    begin = time.monotonic()
    if not storage.exists(options.root):
        raise FileNotFoundError(f"{options.root} does not exist")
    manifest = read_manifest(options.root)
    root = storage.absolute(options.root).rstrip("/") + "/"
    if storage.absolute(options.out).startswith(root):
        raise ValueError(
            f"{options.out} lies inside the data set, where sfumato forget would leave it: choose another OUT"
        )
    if storage.is_folder(options.out):
        raise ValueError(f"{options.out} is a folder; OUT is the page's file")
    sampled = preview_sample.sample(options.root, manifest, options.clips, options.seed)
    page = render(manifest, sampled, options.seed).encode()
    storage.write_bytes(options.out, page)
    counts = {
        "clips": len(sampled.strips),
        "pictures": sum(len(strip.tiles) for strip in sampled.strips),
        "refused": sum(row["shown"] for row in sampled.rejects),
        "shards": sampled.num_shards,
        "bytes": len(page),
    }
    return CommandResult((Artefact("page", options.out),), counts, time.monotonic() - begin)
