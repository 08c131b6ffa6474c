import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from web.front_end_process import free_port
from web.scraping import scraping

from pipelines import assets
from pipelines.cli import CommandResult
from pipelines.commands.preprocess import Options, accept_unknown, run
from pipelines.dataset.reader import ShardDataset
from pipelines.faces.head_pose import fit_pose
from pipelines.media.images import decode_jpeg

Fixture = Callable[..., Any]


@pytest.mark.slow
def test_flags_of_beam_are_taken_and_misspelt_ones_are_not() -> None:
    options = Options("src", "out")
    assert accept_unknown(options, ["--project", "p", "--region=eu"]).beam_args == ("--project", "p", "--region=eu")
    for wrong in (["--projekt=p"], ["--proj", "p"], ["--wokers", "2"]):
        with pytest.raises(ValueError, match=f"unknown flag {wrong[0].partition('=')[0]} "):
            accept_unknown(options, wrong)
    with pytest.raises(ValueError, match="unexpected argument stray"):
        accept_unknown(options, ["stray"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"workers": 0}, "workers"),
        ({"size": 4}, "size"),
        ({"frames_per_clip": 4}, "frames_per_clip"),
        ({"val_fraction": 2.0}, "fractions"),
        ({"shard_mb": 0}, "shard_mb"),
        ({"trial_clips": -1}, "trial_clips"),
        ({"max_failed_fraction": 0.0}, "max_failed_fraction"),
        ({"metrics_address": "here"}, "--metrics-address is PORT or HOST:PORT"),
    ],
)
def test_values_out_of_range_are_refused_before_any_work(wrong: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(ValueError, match=message):
        run(Options(str(tmp_path), str(tmp_path / "out"), **wrong))
    assert not (tmp_path / "out").exists()


def test_a_missing_source_is_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(Options(str(tmp_path / "nowhere"), str(tmp_path / "out")))


@pytest.mark.slow
def test_one_text_file_named_mp4_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.mp4 is not a readable video"):
        run(Options(str(tmp_path / "text.mp4"), str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of two real clips of one man, one of another, and a text file named .mp4."""
    folder = tmp_path_factory.mktemp("corpus")
    people = {"clip_single_face": "man", "clip_carphone": "driver"}
    rows = []
    for name, identity in people.items():
        shutil.copy(assets.fetch(name), folder)
        rows.append({"path": assets.find(name).file, "identity": identity, "split": "train"})
    (folder / "text.mp4").write_text("hello")
    rows.append({"path": "text.mp4"})
    (folder / "clips.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "clips.jsonl"


@pytest.fixture(scope="module")
def dataset(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Options, CommandResult]:
    out = tmp_path_factory.mktemp("dataset") / "set"
    options = Options(str(corpus), str(out), size=128, workers=1)
    return options, run(options)


def hashes(root: str) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(root).rglob("*.parquet"))
        if path.is_file()
    }


@pytest.mark.slow
def test_every_input_ends_in_exactly_one_way(dataset: tuple[Options, CommandResult]) -> None:
    options, outcome = dataset
    assert outcome.ok
    assert {name: outcome.counts[name] for name in ("inputs", "done", "rejected", "failed", "frames")} == {
        "inputs": 3,
        "done": 2,
        "rejected": 1,
        "failed": 0,
        "frames": 32,
    }
    assert "2 done + 1 rejected + 0 failed = 3 inputs" in outcome.notes
    assert any("text.mp4 rejected (unreadable)" in note for note in outcome.notes)
    plan = pq.read_table(Path(options.out) / "plan.parquet").to_pylist()
    assert {row["source"] for row in plan} == {"single_face.mp4", "carphone_pristine.mp4", "text.mp4"}
    card = (Path(options.out) / "README.md").read_text()
    assert "| unreadable | 1 |" in card


@pytest.mark.slow
def test_every_frame_of_real_clips_is_readable_by_byte_range(dataset: tuple[Options, CommandResult]) -> None:
    options, _ = dataset
    reader = ShardDataset(options.out)
    assert (reader.manifest.size, reader.manifest.detector) == (128, "mediapipe")
    videos = reader.videos("train")
    assert [video.identity for video in videos] == ["driver", "man"]
    number = 0
    for video in videos:
        for jpeg, points in reader.read(video.frames):
            assert decode_jpeg(jpeg).shape == (128, 128, 3)
            # The whole face lies inside the crop, the eyes above the mouth.
            assert 0 < points.min() < points.max() < 127
            assert points[36:48, 1].mean() < points[48:60, 1].mean()
            assert abs(float(fit_pose(points).yaw)) < 60
            number += 1
    assert number == 32


@pytest.mark.slow
def test_running_again_does_nothing(dataset: tuple[Options, CommandResult]) -> None:
    options, first = dataset
    before = {path: path.stat().st_mtime_ns for path in Path(options.out).rglob("*") if path.is_file()}
    again = run(options)
    assert {path: path.stat().st_mtime_ns for path in Path(options.out).rglob("*") if path.is_file()} == before
    assert again.counts == first.counts
    assert "3 of 3 shards were done before" in again.notes
    left = Path(options.out) / "clips" / ".partial-abc"  # by a write that was killed
    left.write_bytes(b"half")
    run(options)
    assert not left.exists()


@pytest.mark.slow
def test_another_config_is_refused_with_the_difference(dataset: tuple[Options, CommandResult]) -> None:
    options, _ = dataset
    with pytest.raises(ValueError, match=r"another config: clip\.size 128 -> 64\. "):
        run(dataclasses.replace(options, size=64))


@pytest.mark.slow
def test_a_grown_corpus_adds_shards_and_touches_none(dataset: tuple[Options, CommandResult], tmp_path: Path) -> None:
    options, _ = dataset
    shutil.copytree(options.out, tmp_path / "set")
    shutil.copytree(Path(options.src).parent, tmp_path / "more")
    shutil.copy(tmp_path / "more" / "single_face.mp4", tmp_path / "more" / "twin.mp4")
    (tmp_path / "more" / "extra.mp4").write_text("new")
    with (tmp_path / "more" / "clips.jsonl").open("a") as file:
        file.write('\n{"path": "twin.mp4", "identity": "zoe"}\n{"path": "extra.mp4"}')
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("part-*")}
    grown = dataclasses.replace(options, src=str(tmp_path / "more" / "clips.jsonl"), out=str(tmp_path / "set"))
    outcome = run(grown)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "5 inputs" in " ".join(outcome.notes)
    assert "twin.mp4 rejected (duplicate): same content as man/single_face/0" in outcome.notes
    assert "2 new clips were added to the 3 planned before" in outcome.notes


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [("--direct_running_mode=multi_processing", "--direct_num_workers=2"), ("--runner=BundleBasedDirectRunner",)],
    ids=["worker processes", "another engine"],
)
def test_every_engine_gives_the_same_bytes(
    flags: tuple[str, ...], dataset: tuple[Options, CommandResult], tmp_path: Path
) -> None:
    """Through the command: Beam's worker processes want a main module of their own."""
    options, _ = dataset
    runner = () if flags[0].startswith("--runner") else ("--runner=DirectRunner",)
    command = [sys.executable, "-m", "sfumato", "preprocess", options.src, str(tmp_path / "set"), "--size=128"]
    done = subprocess.run([*command, *runner, *flags], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert hashes(str(tmp_path / "set")) == hashes(options.out)
    assert ShardDataset(str(tmp_path / "set")).manifest.digest == ShardDataset(options.out).manifest.digest


@pytest.mark.slow
def test_two_workers_give_the_same_bytes_and_a_lost_shard_is_made_again(
    dataset: tuple[Options, CommandResult], tmp_path: Path
) -> None:
    options, _ = dataset
    other = dataclasses.replace(options, out=str(tmp_path / "two"), workers=2)
    run(other)
    assert hashes(other.out) == hashes(options.out)
    digest = ShardDataset(options.out).manifest.digest
    assert ShardDataset(other.out).manifest.digest == digest
    # As after a crash: one shard without its report, half a shard beside it, no manifest.
    (Path(other.out) / "dataset.json").unlink()
    report = next(Path(other.out).glob("reports/*.json"))
    report.unlink()
    (part,) = Path(other.out).glob(f"clips/*/{report.stem}.parquet")
    part.write_bytes(b"PAR1 half")
    address = f"127.0.0.1:{free_port()}"
    with scraping(address) as seen:
        outcome = run(dataclasses.replace(other, metrics_address=address))
    assert "2 of 3 shards were done before" in outcome.notes
    assert seen["sfumato_preprocess_shards_planned",] == 3
    assert seen["sfumato_preprocess_shards_total",] >= 2  # those of the earlier run, at once
    assert seen["sfumato_preprocess_clips_planned",] == outcome.counts["inputs"]
    assert hashes(other.out) == hashes(options.out)
    assert ShardDataset(other.out).manifest.digest == digest


@pytest.mark.slow
def test_nothing_usable_is_said_and_not_ok(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "in" / name).write_text("hello")
    outcome = run(Options(str(tmp_path / "in"), str(tmp_path / "out"), workers=1))
    assert not outcome.ok
    assert outcome.counts["rejected"] == 2


def sfumato(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sfumato", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_large_run_begins_with_trial_clips_and_stops_when_nothing_comes_of_it(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(64):
        (tmp_path / "in" / f"{number}.mp4").write_text(f"hello {number}")
    done = sfumato("preprocess", str(tmp_path / "in"), str(tmp_path / "out"))
    assert done.returncode == 1
    listing, doubt, line = done.stderr.splitlines()
    assert listing == "64 films, 64 identities (from each file), layout flat"
    assert doubt.startswith("warning: each of the 64 films counts as another person")
    assert line.startswith(
        "sfumato preprocess: error: stopped before the run: none of the 8 clips of the trial run gave"
    )
    assert line.endswith("--trial-clips 0 runs all the same")
    assert not (tmp_path / "out" / "clips").exists()


@pytest.mark.slow
def test_a_forecast_comes_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    video_path = assets.fetch("clip_carphone").read_bytes()
    for number in range(16):
        (tmp_path / "in" / f"{number}.mp4").write_bytes(video_path + b"\0\0\0\x0cfree" + bytes([number] * 4))
    flags = ["--size=64", "--frames-per-clip=9", "--max-sample-fps=4", "--trial-clips=2", "--no-audio"]
    done = sfumato("preprocess", str(tmp_path / "in"), str(tmp_path / "out"), *flags)
    assert done.returncode == 0, done.stderr
    first, second, third = done.stderr.splitlines()
    assert first.startswith("forecast from 2 clips: 16 to come, ")
    assert first.endswith("0% without a row")
    assert second.startswith("a clip costs ")
    assert "clips/s" in third


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_run_in_which_everything_fails_is_stopped_early_with_the_reasons(workers: str, tmp_path: Path) -> None:
    rows = [{"path": f"gone-{number}.mp4", "num_bytes": 5 + number} for number in range(80)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    flags = ["--trial-clips=0", f"--workers={workers}"]
    done = sfumato("preprocess", str(tmp_path / "m.jsonl"), str(tmp_path / "out"), *flags)
    assert done.returncode == 1
    *_, line = done.stderr.splitlines()
    assert line.startswith(
        "sfumato preprocess: error: the run was stopped: 20 of 20 clips failed, more than the budget of 10% "
        "(20 storage); the last one: gone-"
    )
    assert not (tmp_path / "out" / "dataset.json").exists()
