"""The benchmark of small faces: its clips, its words and what it counts; never its seconds."""

import json
from pathlib import Path
from typing import Any

import pytest

import sfumato
from pipelines.benchmarks import small_faces
from pipelines.media.video import probe


@pytest.mark.slow
def test_case_06_small_faces_are_kept_by_the_second_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At half of full HD, which is quicker: faces of 40 and of 200 px. The first look sees an eighth of 960 px."""
    for name, value in (("_WIDTH", 960), ("_HEIGHT", 540), ("SIZES", (40.0, 200.0))):
        monkeypatch.setattr(small_faces, name, value)
    arguments = ["--clips", "2", "--seconds", "0.8", "--keep", str(tmp_path), "--json"]
    assert sfumato.main(["bench", "small-faces", *arguments]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["counts"] == {"clips": 2, "kept by the first look": 1, "kept by the second look": 2}
    figures = {name: (line["clips"], line["kept"]) for name, line in found["figures"].items()}
    assert figures == {
        "40-64 px": (1, {"first look": 0, "second look": 1}),
        "160-250 px": (1, {"first look": 1, "second look": 1}),
        "no face": (1, {"first look": 0, "second look": 0}),
    }
    assert all(cost > 0 for line in found["figures"].values() for cost in line["cpu_s"].values())
    clips = sorted(tmp_path.iterdir())
    assert [clip.name for clip in clips] == ["000-040px.mp4", "001-200px.mp4", "002-000px.mp4"]
    info = probe(clips[0])
    assert (info.width, info.height, info.num_frames) == (960, 540, 20)


def test_too_few_or_too_long_clips_are_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["--clips", "1"], "--clips must be at least 2, got 1"),
        (["--seconds", "4"], "--seconds must lie in [0.8, 3], got 4.0"),
    ):
        assert sfumato.main(["bench", "small-faces", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
