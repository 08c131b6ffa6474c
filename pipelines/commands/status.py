"""`sfumato status OUT`: how far a run of preprocess is, who is at work, and which clips gave no row."""

from __future__ import annotations

import time
from dataclasses import dataclass

import tyro

from pipelines import storage
from pipelines.cli import Artefact, CommandResult
from pipelines.preprocess.run_record import LEASE
from pipelines.preprocess.status import read_status
from pipelines.storage.lease import holder


@dataclass(frozen=True)
class Options:
    """Say how far a run of preprocess is, while it runs or afterwards, on any runner: from the shards that are made."""

    out: tyro.conf.Positional[str]
    """OUT of `sfumato preprocess`: a path or URL."""


def run(options: Options) -> CommandResult:
    """Read the state of a data set. Nothing is changed.

    Raises:
        FileNotFoundError: OUT does not exist, or nothing was begun there.
        ValueError: OUT is damaged.
    """
    begin = time.monotonic()
    if not storage.exists(options.out):
        raise FileNotFoundError(f"{options.out} does not exist")
    try:
        status = read_status(options.out)
    except FileNotFoundError:
        if (at_work := holder(options.out, LEASE)) is None:
            raise
        notes = (f"{at_work} plans it",)
        return CommandResult((), {"shards": 0, "shards_done": 0}, time.monotonic() - begin, notes=notes)
    counts = {
        "shards": status.num_shards,
        "shards_done": status.shards_done,
        "clips": status.num_clips,
        "clips_processed": status.clips_processed,
        "done": status.done,
        "rejected": status.rejected,
        "failed": status.failed,
    }
    what = "data set" if status.is_complete else "unfinished data set"
    return CommandResult(
        (Artefact(what, options.out),), counts, time.monotonic() - begin, notes=tuple(status.notes(time.time()))
    )
