"""The benchmark's words and counts; never its seconds."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import sfumato
from pipelines import assets
from pipelines.benchmarks.rounds import Cost
from pipelines.dataset.reader import ShardDataset
from training.benchmarks.loader import Figures

MakeDataset = Callable[..., ShardDataset]


def figures(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, float]]:
    assert sfumato.main(["bench", "loader", *arguments, "--json"]) == 0
    found: dict[str, dict[str, float]] = json.loads(capsys.readouterr().out)
    return found


def test_ratios_are_of_cpu_seconds_and_bytes() -> None:
    found = Figures(Cost(2.0, 9.0), Cost(2.5, 1.0), Cost(100.0, 1.0), 110, 100, {})
    assert found.ratios == {"loader_over_decode": 1.25, "videos_over_loader": 40.0, "bytes_over_frames": 1.1}
    without = Figures(Cost(2.0, 9.0), Cost(2.5, 1.0), None, None, 100, {})
    assert without.ratios == {"loader_over_decode": 1.25}


@pytest.mark.slow
def test_a_data_set_is_measured_and_bytes_are_counted(
    make_dataset: MakeDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = make_dataset("ann/v1", "bob/v1", num_frames=12)
    found = figures(capsys, "--data", dataset.root, "--shots", "3", "--episodes", "40", "--rounds", "1")
    assert found["counts"] == {"videos": 2, "episodes": 40, "rounds": 1}
    assert found["figures"]["videos"] is None  # type: ignore[comparison-overlap]
    assert {"cpu", "cores", "opencv-python", "decoding_threads"} <= found["figures"]["machine"].keys()  # type: ignore[attr-defined]
    assert found["ratios"].keys() == {"loader_over_decode", "bytes_over_frames"}
    lengths = [frame.jpeg_length for video in dataset.videos("train") for frame in video.frames]
    of_frames, read = found["figures"]["bytes_of_frames"], found["figures"]["bytes_read"]
    assert 4 * min(lengths) <= of_frames <= 4 * max(lengths)
    landmarks = 4 * 68 * 2 * 4
    # What was asked for, an eighth more between neighbours, and the kernel's counters themselves.
    assert of_frames + landmarks <= read <= (of_frames + landmarks) * 9 / 8 + 100


def test_what_cannot_be_measured_is_one_line(
    make_dataset: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_dataset("ann/v1").root
    for arguments, code, message in (
        (["--data", str(tmp_path / "none")], 1, "has no dataset.json"),
        (["--data", root], 1, "none of the 1 training videos"),
        (["--data", root, "--videos", str(tmp_path / "gone.mp4")], 2, "gone.mp4 does not exist"),
        (["--data", root, "--rounds", "0"], 2, "rounds must be at least 1"),
    ):
        assert sfumato.main(["bench", "loader", *arguments]) == code, arguments
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


@pytest.mark.long  # makes a data set of real clips and runs the landmark detector
def test_without_data_the_catalogues_clips_are_measured_three_ways(capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(capsys, "--episodes", "3", "--rounds", "1")
    assert found["counts"] == {"videos": 3, "episodes": 3, "rounds": 1}
    assert found["ratios"].keys() == {"loader_over_decode", "videos_over_loader", "bytes_over_frames"}
    assert found["ratios"]["bytes_over_frames"] < 1.5
    for way in ("decode", "loader", "videos"):
        assert found["figures"][way].keys() == {"cpu_s", "wall_s"}  # type: ignore[attr-defined]


@pytest.mark.slow
def test_videos_may_be_given(make_dataset: MakeDataset, capsys: pytest.CaptureFixture[str]) -> None:
    film = str(assets.fetch("clip_carphone"))
    root = make_dataset("ann/v1", num_frames=9).root
    found = figures(capsys, "--data", root, "--videos", film, "--episodes", "1", "--rounds", "1", "--size", "32")
    assert "videos_over_loader" in found["ratios"]
