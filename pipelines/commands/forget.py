"""`sfumato forget ROOT --identity ID`: remove a person from a data set."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

import tyro

from pipelines import storage
from pipelines.cli import Artefact, CommandResult, console, progress
from pipelines.curation import forget_identity
from pipelines.curation.forget_identity import Holding
from pipelines.dataset import forgotten_log
from pipelines.dataset.manifest import read_manifest
from pipelines.planning.plan_file import PlanFile
from pipelines.preprocess.run import check_writable_by
from pipelines.preprocess.run_record import LEASE
from pipelines.storage import lease

_NOT_TOUCHED = "not touched: models trained on the data, copies of it, and the videos themselves"


@dataclass(frozen=True)
class Options:
    """Remove a person from a data set: frames, landmarks, sound, rejects and every mention of the name."""

    root: tyro.conf.Positional[str]
    """The data set: a path or URL."""
    identity: str
    """The identity to remove, spelled as in `plan.parquet`."""
    yes: bool = False
    """Do not ask before changing anything."""


def run(options: Options) -> CommandResult:
    """Find the identity, ask for confirmation, rewrite its shards.

    An identity that was removed before is not an error: an interrupted removal is completed.

    Raises:
        FileNotFoundError: ROOT does not exist, or a file of the data set is missing.
        ValueError: ROOT is not a data set, it has no such identity, there is no terminal to confirm on, or another
            process is at work on it.
    """
    begin = time.monotonic()
    if not storage.exists(options.root):
        raise FileNotFoundError(f"{options.root} does not exist")
    read_manifest(options.root)  # raises first when this is not a data set
    plan = PlanFile(options.root)
    holding = forget_identity.find_identity(options.root, plan, options.identity)
    if not holding.shards:
        return _complete_earlier(options, plan, begin)
    question = f"{_quantity(holding)} of {options.identity!r} go for good"
    if not options.yes and not _confirmed(question):
        return CommandResult(
            (), _counts(holding, 0), time.monotonic() - begin, ok=False, notes=("nothing was changed",)
        )
    with lease.hold(options.root, LEASE), progress() as bar:
        check_writable_by(options.root, "")
        task = bar.add_task("shards", total=len(holding.shards))
        forget_identity.remove_identity(options.root, holding, lambda: bar.advance(task))
    notes = [f"{_quantity(holding)} are gone; {forgotten_log.LOG} keeps a hash of the name, not the name"]
    if holding.copies:
        notes.append(f"copies of the same videos went, too: {_some(holding.copies)}")
    if holding.remaining:
        notes.append(
            f"the same videos stay under other names: {_some(holding.remaining)}; forget those identities, too"
        )
    return CommandResult(
        (Artefact("data set", options.root),),
        _counts(holding, len(holding.shards)),
        time.monotonic() - begin,
        notes=(*notes, _NOT_TOUCHED),
    )


def _complete_earlier(options: Options, plan: PlanFile, begin: float) -> CommandResult:
    """Complete an interrupted removal of an identity that the plan does not name any more."""
    digest = forgotten_log.hash_of(options.identity)
    earlier = [line for line in forgotten_log.read_log(options.root) if line.identity_sha256 == digest]
    if not earlier:
        close = get_close_matches(options.identity, sorted(forget_identity.known_identities(plan)), n=3, cutoff=0.6)
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        raise ValueError(f"{options.root} has no identity {options.identity!r}{hint}")
    with lease.hold(options.root, LEASE):
        forget_identity.update_manifest(options.root)
    return CommandResult(
        (Artefact("data set", options.root),),
        {"clips": 0, "frames": 0, "shards": 0},
        time.monotonic() - begin,
        notes=(f"this identity was taken out before, on {earlier[-1].at}", _NOT_TOUCHED),
    )


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise ValueError(f"{question}: nobody is here to confirm it; say --yes")
    try:
        return console().input(f"{question}. Go on? [y/N] ", markup=False).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _quantity(holding: Holding) -> str:
    numbers = {"clip": holding.num_clips, "frame": holding.num_frames, "shard": len(holding.shards)}
    clips, frames, shards = (f"{number:,} {name}{'s' * (number != 1)}" for name, number in numbers.items())
    return f"{clips} and {frames} in {shards}"


def _counts(holding: Holding, num_shards: int) -> dict[str, int]:
    return {
        "clips": holding.num_clips if num_shards else 0,
        "frames": holding.num_frames if num_shards else 0,
        "shards": num_shards,
    }


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
