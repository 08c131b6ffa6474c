"""Folders as inputs of `animate`: which files in them are inputs, and which are results of earlier runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipelines import storage
from serving.batch.results.contact_page import NAME as PAGE
from serving.batch.results.contact_page import POSTERS
from serving.batch.results.report import FOLDER as REPORTS
from serving.batch.results.sidecars import read_sidecar
from serving.batch.workspace import AVATARS

_MAX_NAMED = 5
_NUM_READERS = 16


def visible_files(folder: str) -> Sequence[str]:
    """Return the names of the files below a folder, relative to it, without hidden ones."""
    names = (storage.relative(url, folder) for url in storage.list(folder))
    return [name for name in names if not storage.is_hidden(name)]


def is_kept_avatar(name: str, files: Sequence[str]) -> bool:
    """Whether an avatar is one that an earlier run has made of a picture: OUT/avatars/NAME, beside OUT/report."""
    out = name.rpartition(f"{AVATARS}/")[0]
    return name == f"{out}{AVATARS}/{name.rpartition('/')[2]}" and any(
        file.startswith(f"{out}{REPORTS}/") for file in files
    )


@dataclass(frozen=True)
class ChosenFiles:
    """The files of one kind directly in a folder, and the names of the others."""

    folder: str
    found: Sequence[str]
    own: Sequence[str]
    """Results of earlier runs."""
    others: Sequence[str]

    def notes(self, what: str, num_avatars: int = 0) -> tuple[str, ...]:
        """Return lines that count the results of earlier runs, with `num_avatars` more, and name the other files."""
        notes = []
        if number := len(self.own) + num_avatars:
            notes.append(f"{self.folder}: {number:,} results of earlier runs are left out")
        if self.others:
            named = ", ".join(self.others[:_MAX_NAMED])
            more = f" and {len(self.others) - _MAX_NAMED:,} more" if len(self.others) > _MAX_NAMED else ""
            notes.append(f"{self.folder}: {len(self.others):,} files that are no {what} are left out: {named}{more}")
        return tuple(notes)


def choose_files(folder: str, files: Sequence[str], suffixes: Collection[str]) -> ChosenFiles:
    """Choose the files directly in a folder that have one of the suffixes and are no results of earlier runs.

    Args:
        files: the names of the files below the folder, relative to it.
        suffixes: in lower case.
    """
    results, by_runs = _results_of_runs(folder, files)
    rest = [name for name in files if name not in results and name not in by_runs]
    fits = [name for name in rest if "/" not in name and PurePosixPath(name).suffix.lower() in suffixes]
    others = [name for name in rest if name not in set(fits)]
    return ChosenFiles(folder, [storage.join(folder, name) for name in fits], sorted(results), others)


def _results_of_runs(folder: str, files: Sequence[str]) -> tuple[set[str], set[str]]:
    """Return the videos in a folder that a sidecar beside them names, and what runs write beside those videos."""
    present = set(files)
    candidates = [name for name in files if name.endswith(".json") and f"{name.removesuffix('.json')}.mp4" in present]
    with ThreadPoolExecutor(_NUM_READERS) as readers:
        sidecars = list(readers.map(lambda name: read_sidecar(storage.join(folder, name)), candidates))
    videos = {file for sidecar in sidecars if sidecar is not None for file in sidecar.files} & present
    if not videos:
        return set(), set()
    written = {name for name, sidecar in zip(candidates, sidecars, strict=True) if sidecar is not None}
    written |= {name for name in files if name == PAGE or name.startswith((f"{REPORTS}/", f"{POSTERS}/"))}
    return videos, written
