"""Feed mutated films, pictures and manifests to the functions that open them: `make fuzz FUZZ_SECONDS=3600`.

Each may answer, or refuse by its documented errors with one line that names the file. A crash of the process, more than
`_LIMIT_S` seconds, or another exception is a fault; its input is kept.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

from fuzz_mutations import mutate
from fuzz_seeds import seeds

from pipelines.media.decoder.process import Decoder, DecoderDied
from pipelines.media.images import read_image
from pipelines.media.video import decode, probe
from pipelines.planning import manifests

_LIMIT_S = 20.0
_MAX_FRAMES = 40
_MEMORY_BYTES = 8 * 2**30
_REFUSALS = (ValueError, FileNotFoundError, DecoderDied)


@dataclass
class Figures:
    """What became of the inputs so far."""

    by_kind: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest_s: float = 0.0


def functions_for(name: str, decoder: Decoder, *, service: bool = False) -> dict[str, Callable[[Path], object]]:
    """Return the functions that open a file of this kind; with `service`, the upload routes of the service only."""
    if service:
        from fuzz_service import upload

        return {} if name.endswith((".csv", ".jsonl")) else {"upload": upload}
    match name.rpartition(".")[2]:
        case "csv" | "jsonl":
            return {"manifests.read": lambda path: list(manifests.read(str(path)))}
        case "jpg" | "png" | "webp" | "tif":
            return {"read_image": read_image}
    return {
        "probe": probe,
        "decode": lambda path: sum(1 for _ in islice(decode(path), _MAX_FRAMES)),
        "Decoder": lambda path: _through_child(decoder, path),
    }


def _through_child(decoder: Decoder, path: Path) -> None:
    info = decoder.describe(path)
    list(decoder.frames(path, range(info.first, min(info.last, info.first + 5) + 1)))
    decoder.audio(path)


def check(function: Callable[[Path], object], path: Path) -> tuple[str, str | None]:
    """Call a function; return "done" or "refused", and what is wrong with its answer, if anything."""
    try:
        function(path)
    except _REFUSALS as error:
        line = str(error)
        wrong = None
        if path.name not in line and not isinstance(error, DecoderDied):
            wrong = f"does not name the file: {line!r}"
        elif len(line.splitlines()) > 1:
            wrong = f"more than one line: {line!r}"
        return "refused", wrong
    except Exception as error:  # noqa: BLE001 - what no caller expects is what is looked for
        return "refused", f"{type(error).__name__}: {error}"
    return "done", None


def inputs(seed: int) -> Iterator[tuple[int, str, bytes]]:
    """Yield number, name and contents of mutated files without end; the same for the same seed."""
    kinds = sorted(seeds().items())
    for number in range(sys.maxsize):
        chance = random.Random(f"{seed}-{number}")
        name, data = kinds[number % len(kinds)]
        yield number, name, mutate(name, data, chance)


def run(seed: int, seconds: float, keep: Path, most: int | None = None, *, service: bool = False) -> Figures:
    """Feed inputs for some seconds, or at most so many; keep those with a fault in a folder."""
    figures, deadline = Figures(), time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="sfumato-fuzz-") as folder:
        _feed(figures, islice(inputs(seed), most), deadline, Path(folder), keep, service)
    return figures


def _feed(
    figures: Figures,
    files: Iterable[tuple[int, str, bytes]],
    deadline: float,
    folder: Path,
    keep: Path,
    service: bool = False,
) -> None:
    worker = _Worker(folder, service)
    for number, name, data in files:
        if time.monotonic() > deadline:
            break
        started = time.monotonic()
        found = worker.check(name, data)
        figures.slowest_s = max(figures.slowest_s, time.monotonic() - started)
        figures.by_kind[name] += 1
        for function, answer, wrong in found:
            figures.answers[f"{function}: {answer}"] += 1
            if wrong is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{number}-{name}").write_bytes(data)
                figures.faults.append(f"{number} {name} {function}: {wrong}")
                print(figures.faults[-1], flush=True)  # noqa: T201 - a script's output
    worker.close()


class _Worker:
    """A process that checks inputs, and is replaced when it crashes or hangs."""

    def __init__(self, folder: Path, service: bool) -> None:
        """Write inputs to `folder`, one after another."""
        self._folder, self._more = folder, {"service": True} if service else {}
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._folder, self._more), daemon=True)
        self._process.start()
        theirs.close()

    def check(self, name: str, data: bytes) -> list[tuple[str, str, str | None]]:
        self._connection.send((name, data))
        if not self._connection.poll(_LIMIT_S):
            return self._replace(f"no answer within {_LIMIT_S:g} s")
        try:
            found: list[tuple[str, str, str | None]] = self._connection.recv()
        except EOFError:
            self._process.join()
            return self._replace(f"the process died (exit code {self._process.exitcode})")
        return found

    def _replace(self, wrong: str) -> list[tuple[str, str, str | None]]:
        self._process.kill()
        self._process.join()
        self._start()
        return [("process", "lost", wrong)]

    def close(self) -> None:
        self._connection.send(None)
        self._process.join()


def _serve(connection: Connection, folder: Path, more: dict[str, bool]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    with Decoder() as decoder:
        while (file := connection.recv()) is not None:
            name, data = file
            path = folder / name
            path.write_bytes(data)
            checks = functions_for(name, decoder, **more)
            connection.send([(title, *check(function, path)) for title, function in checks.items()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to feed inputs")
    parser.add_argument("--seed", type=int, default=1, help="another seed gives other inputs")
    parser.add_argument("--service", action="store_true", help="upload them to the service instead")
    parser.add_argument("--keep", type=Path, default=Path("fuzz"), help="folder for the inputs that cause a fault")
    options = parser.parse_args()
    figures = run(options.seed, options.seconds, options.keep, service=options.service)
    print(f"{figures.by_kind.total():,} inputs, slowest {figures.slowest_s:.1f} s")  # noqa: T201
    for title, counted in (("inputs", figures.by_kind), ("answers", figures.answers)):
        print(f"{title}: " + ", ".join(f"{name} {number:,}" for name, number in sorted(counted.items())))  # noqa: T201
    print(f"faults: {len(figures.faults)}")  # noqa: T201
    sys.exit(bool(figures.faults))


if __name__ == "__main__":
    main()
