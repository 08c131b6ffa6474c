"""`sfumato synthesize` through the real command, with a camera that draws no person."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

import sfumato
from pipelines.commands import synthesize
from pipelines.media.video import probe
from pipelines.planning.sources import Source, find_sources
from pipelines.synthetic.corpus.ground_truth import read_truth

ROOT = Path(sfumato.__file__).parent
CAMERAS = ROOT / "tests" / "pipelines" / "synthetic"
SMALL = ["--identities", "3", "--videos", "2", "--seconds", "0.48", "--size", "64", "--motion", "procedural"]


@pytest.fixture
def renderers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tests' renderers; the command uses one that films at once."""
    monkeypatch.syspath_prepend(str(CAMERAS))
    import square_renderer

    monkeypatch.setattr(synthesize, "make_renderer", square_renderer.SquareRenderer)
    return square_renderer


def run(capsys: pytest.CaptureFixture[str], out: Path | str, *flags: str) -> dict[str, Any]:
    code = sfumato.main(["synthesize", str(out), *SMALL, "--workers", "1", "--json", *flags])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    outcome: dict[str, Any] = json.loads(printed.out.splitlines()[-1])
    return outcome


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = sfumato.main(["synthesize", *arguments])
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return code, printed.err


def files(out: Path) -> dict[str, bytes]:
    """What must not differ: everything but the manifest, which holds seconds."""
    paths = (path for path in sorted(out.rglob("*")) if path.is_file() and path.name != "corpus.json")
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


@pytest.mark.usefixtures("renderers")
def test_command_makes_a_corpus_and_says_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(capsys, tmp_path / "corpus")
    counts = {"identities": 3, "videos": 6, "clips": 6, "frames": 72, "clips filmed now": 6}
    assert outcome["counts"] == counts
    assert [made["what"] for made in outcome["made"]] == ["corpus", "manifest", "people"]
    assert outcome["notes"][0].endswith("frames a second")
    manifest = json.loads((tmp_path / "corpus" / "corpus.json").read_text())
    assert manifest["counts"] == {name: counts[name] for name in ("identities", "videos", "clips", "frames")}
    assert manifest["config"]["seed"] == 0
    assert manifest["last_run"]["frames_per_second"] > 0


@pytest.mark.usefixtures("renderers")
def test_fewer_pictures_a_second_of_a_longer_motion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(capsys, tmp_path / "corpus", "--seconds", "6", "--fps", "2")
    assert outcome["counts"]["frames"] == 6 * 12
    info = probe(tmp_path / "corpus/id20001/v0001/00001.mp4")
    assert (info.fps, info.num_frames) == (2, 12)


@pytest.mark.usefixtures("renderers")
def test_preprocess_finds_the_clips_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, tmp_path)
    found = list(find_sources(str(tmp_path)))
    assert [str(item.key) for item in found] == [f"id2000{i}/v000{v}/00001" for i in (1, 2, 3) for v in (1, 2)]
    assert all(isinstance(item, Source) for item in found)


@pytest.mark.usefixtures("renderers")
def test_run_again_it_films_what_is_missing_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "corpus"
    run(capsys, out)
    first, manifest = files(out), (out / "corpus.json").read_bytes()
    assert run(capsys, out)["counts"]["clips filmed now"] == 0
    assert (out / "corpus.json").read_bytes() == manifest
    (out / "id20002/v0001/00001.parquet").unlink()
    (out / "id20003/v0002/00001.mp4").unlink()
    (out / "id20002/v0001/00001.mp4").write_bytes(b"half a film")
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.mp4")}
    outcome = run(capsys, out)
    assert outcome["counts"]["clips filmed now"] == 2
    assert files(out) == first
    changed = [path for path, mtime in times.items() if path.stat().st_mtime_ns != mtime]
    assert changed == [out / "id20002/v0001/00001.mp4"]


@pytest.mark.usefixtures("renderers")
def test_paired_corpus_holds_every_identity_in_every_motion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, tmp_path, "--paired")
    clips = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.mp4"))
    assert clips == [f"id2000{i}/m000{m}/00001.mp4" for i in (1, 2, 3) for m in (1, 2)]
    one, other = (read_truth(f"{tmp_path}/id2000{i}/m0001/00001.mp4") for i in (1, 3))
    assert (one.angles == other.angles).all()


@pytest.mark.usefixtures("renderers")
def test_other_flags_in_the_same_folder_are_refused_with_the_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, tmp_path / "corpus")
    before = files(tmp_path)
    code, line = refusal(capsys, str(tmp_path / "corpus"), *SMALL, "--seed", "4", "--size", "128")
    assert code == 1
    assert "begun with other settings: seed 0 -> 4; size 64 -> 128. Take the same flags or another OUT" in line
    assert files(tmp_path) == before


@pytest.mark.usefixtures("renderers")
def test_a_corpus_of_an_older_version_is_not_continued(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"version": 1}))
    before = files(tmp_path)
    code, line = refusal(capsys, str(tmp_path), *SMALL)
    assert code == 1
    assert "made corpora of version 1" in line
    assert line.strip().endswith("Take another OUT")
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--identities", "0"], "identities must be 1 to 79999, got 0"),
        (["--size", "99"], "size must be an even number of 64 to 1024 pixels, got 99"),
        (["--seconds", "0"], "got 0.0 s at 25 fps"),
        (["--seconds", "nan"], "got nan s at 25 fps"),
        (["--fps", "0"], "fps must be 1 to 240, got 0"),
        (["--workers", "0"], "workers must be at least 1, got 0"),
        (["--paired", "--clips", "2"], "a paired corpus has one clip of each identity and motion, got clips 2"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_values_out_of_range_are_refused_in_one_line(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = refusal(capsys, str(tmp_path / "corpus"), *flags)
    assert message in line
    assert code in (1, 2)
    assert not (tmp_path / "corpus").exists()


def test_a_folder_with_other_files_is_refused_before_anything_is_fetched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "mine.mp4").write_bytes(b"x")
    code, line = refusal(capsys, str(tmp_path / "films"))
    assert (code, "mine.mp4" in line) == (1, True)
    code, line = refusal(capsys, str(tmp_path / "films" / "mine.mp4"))
    assert (code, "mine.mp4 is a file; a corpus is a folder" in line) == (1, True)
    assert not (tmp_path / "cache").exists()


def test_a_full_disk_ends_the_run_and_whole_clips_stay(
    tmp_path: Path, renderers: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesize, "make_renderer", renderers.FailingRenderer)
    code, line = refusal(capsys, str(tmp_path), *SMALL, "--workers", "1")
    assert (code, line) == (1, "sfumato synthesize: error: clip.mp4: No space left on device\n")
    assert len(list(tmp_path.rglob("*.parquet"))) == 2
    assert not (tmp_path / "corpus.json").exists()


def start(out: Path, sign: Path, camera: str) -> subprocess.Popen[str]:
    """The real command in a process group of its own, with two workers; the sign appears when it videos slowly."""
    # Tests in the background of a shell script inherit a SIGINT that is ignored.
    command = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        f"sys.path.append({str(CAMERAS)!r});"
        "import square_renderer, sfumato; from pipelines.commands import synthesize;"
        f"synthesize.make_renderer = square_renderer.{camera}; sys.exit(sfumato.main())"
    )
    return subprocess.Popen(
        [sys.executable, "-c", command, "synthesize", str(out), *SMALL, "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "SLOW_RENDERER_MARKER": str(sign), "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def wait_for(what: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not what.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def of_group(group: int) -> list[psutil.Process]:
    """Living processes of a group. What waits to be reaped by a container's first process is dead."""
    found = []
    for process in psutil.process_iter(["status"]):
        try:
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            pass
    return found


def is_gone(group: int) -> bool:
    """Whether all of a group ends by itself within half a minute: Python's own helper process ends after its parent."""
    deadline = time.monotonic() + 30  # the renderers would take a minute
    while of_group(group) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not of_group(group)


@pytest.mark.slow
@pytest.mark.usefixtures("renderers")
def test_ctrl_c_ends_all_workers_at_once_and_the_same_command_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "corpus"
    with start(out, tmp_path / "sign", "SlowRenderer") as process:
        wait_for(tmp_path / "sign", process)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: all of the group
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (stdout, stderr) == ("", "sfumato synthesize: interrupted: run the same command again to resume\n")
    assert is_gone(process.pid)
    assert not list(out.rglob(".partial-*"))
    assert not (out / "corpus.json").exists()
    whole = len(list(out.rglob("*.parquet")))
    assert 1 <= whole < 6
    assert run(capsys, out)["counts"]["clips filmed now"] == 6 - whole
    run(capsys, tmp_path / "other")
    assert files(out) == files(tmp_path / "other")


@pytest.mark.slow
@pytest.mark.usefixtures("renderers")
def test_killed_it_takes_its_workers_along_and_half_a_file_is_never_believed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "corpus"
    with start(out, tmp_path / "sign", "SlowRenderer") as process:
        wait_for(tmp_path / "sign", process)
        process.kill()
        process.wait(timeout=30)
        assert is_gone(process.pid)
    (out / "id20003" / "v0001").mkdir(parents=True, exist_ok=True)
    (out / "id20003" / "v0001" / "00001.mp4").write_bytes(b"a film without its truth")
    (out / "id20003" / "v0001" / ".partial-xyz").write_bytes(b"half a write")
    run(capsys, out)
    run(capsys, tmp_path / "other")
    assert files(out) == files(tmp_path / "other")
