"""`sfumato validate ROOT`: reopen every file of a data set and check its contents."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

import tyro

from pipelines.cli import Artefact, CommandResult, progress
from pipelines.curation.validate_dataset import Validation, validate
from pipelines.machine import available_cpus

_SHOWN = 20


@dataclass(frozen=True)
class Options:
    """Reopen every file of a data set and check its contents against the index, the plan and the manifest."""

    root: tyro.conf.Positional[str]
    """The data set: a path or URL."""
    quick: bool = False
    """Do not decode the images; their checksums are still compared."""
    workers: int = dataclasses.field(default_factory=available_cpus)
    """Number of shards checked at once."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")


def run(options: Options) -> CommandResult:
    """Check everything. Every finding is a note; any finding makes the result not ok.

    Raises:
        FileNotFoundError: ROOT does not exist.
        ValueError: ROOT is not a data set.
    """
    begin = time.monotonic()
    with progress() as bar:
        task = bar.add_task("shards", total=None)
        result = validate(
            options.root,
            quick=options.quick,
            workers=options.workers,
            advance=lambda done, total: bar.update(task, completed=done, total=total),
        )
    return _to_command_result(options.root, result, time.monotonic() - begin)


def _to_command_result(root: str, result: Validation, seconds: float) -> CommandResult:
    number = len(result.findings)
    notes = [*result.notes, *map(str, result.findings[:_SHOWN])]
    if number > _SHOWN:
        notes.append(f"and {number - _SHOWN} more")
    if number:
        files = len({finding.file for finding in result.findings})
        notes.append(f"{root} is not sound: {number} finding{'s' * (number > 1)} in {files} file{'s' * (files > 1)}")
    counts = {
        "shards": result.num_shards,
        "clips": result.num_clips,
        "frames": result.num_frames,
        "findings": number,
    }
    made = () if number else (Artefact("sound data set", root),)
    return CommandResult(made, counts, seconds, ok=not number, notes=tuple(notes))
