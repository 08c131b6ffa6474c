"""A few hundred mutated files, and what the fuzzing itself calls a fault."""

from __future__ import annotations

import os
import random
from pathlib import Path

import fuzz
import pytest
from fuzz_mutations import mutate
from fuzz_seeds import seeds


@pytest.mark.slow
def test_mutated_films_pictures_and_manifests_are_answered_or_refused(tmp_path: Path) -> None:
    figures = fuzz.run(seed=2, seconds=60, keep=tmp_path, most=320)
    assert figures.faults == []
    assert figures.by_kind.total() == 320
    # Neither all whole nor all broken: both would test little.
    for function in ("probe", "decode", "Decoder", "read_image", "manifests.read"):
        assert {f"{function}: done", f"{function}: refused"} - set(figures.answers) <= {"manifests.read: done"}


@pytest.mark.slow
def test_no_mutated_upload_is_a_fault_of_the_service(tmp_path: Path) -> None:
    figures = fuzz.run(seed=3, seconds=60, keep=tmp_path, most=60, service=True)
    assert figures.faults == []
    assert {"upload: done", "upload: refused"} == set(figures.answers)


@pytest.mark.slow
def test_the_seeds_are_whole(tmp_path: Path) -> None:
    with fuzz.Decoder() as decoder:
        for name, data in seeds().items():
            path = tmp_path / name
            path.write_bytes(data)
            if path.suffix not in (".csv", ".jsonl"):  # the films that they name do not exist
                for function in fuzz.functions_for(name, decoder).values():
                    assert fuzz.check(function, path) == ("done", None)


@pytest.mark.parametrize("name", sorted(seeds()))
def test_mutations_change_a_file_and_repeat_with_the_seed(name: str) -> None:
    data = seeds()[name]
    changed = [mutate(name, data, random.Random(number)) for number in range(20)]
    assert changed == [mutate(name, data, random.Random(number)) for number in range(20)]
    assert len(set(changed) - {data}) > 12


def test_what_is_called_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.png"

    def fail(error: Exception) -> tuple[str, str | None]:
        def function(path: Path) -> None:
            raise error

        return fuzz.check(function, path)

    assert fail(ValueError(f"{path} is broken")) == ("refused", None)
    assert fail(ValueError("broken")) == ("refused", "does not name the file: 'broken'")
    assert fail(ValueError(f"{path}\nis broken"))[1] is not None
    assert fail(KeyError("x")) == ("refused", "KeyError: 'x'")
    assert fuzz.check(lambda path: None, path) == ("done", None)


@pytest.mark.slow
def test_crashes_and_hangs_are_faults_and_end_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def functions(name: str, decoder: fuzz.Decoder) -> dict[str, object]:
        return {"crash": lambda path: os._exit(7) if b"crash" in path.read_bytes() else fuzz.time.sleep(60)}

    monkeypatch.setattr(fuzz, "functions_for", functions)
    monkeypatch.setattr(fuzz, "_LIMIT_S", 0.2)
    files = [(0, "a.png", b"crash"), (1, "b.png", b"hang")]
    monkeypatch.setattr(fuzz, "inputs", lambda seed: iter(files))
    figures = fuzz.run(seed=1, seconds=60, keep=tmp_path / "kept")
    assert figures.faults == [
        "0 a.png process: the process died (exit code 7)",
        "1 b.png process: no answer within 0.2 s",
    ]
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["0-a.png", "1-b.png"]
