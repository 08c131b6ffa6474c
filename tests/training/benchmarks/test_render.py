"""The benchmark's words and counts; never its seconds."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

import sfumato
from pipelines import assets
from pipelines.media.video import decode


@pytest.fixture
def short_driver(tmp_path: Path) -> Path:
    """Four frames of a real clip."""
    path = tmp_path / "driver.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width = 144, 192
        for frame in decode(assets.fetch("clip_carphone"), frame_indices=range(4)):
            image = np.ascontiguousarray(frame.image[:144, :192])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode())
    return path


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_every_stage_of_every_kind_of_video_is_measured(short_driver: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sfumato.main(["bench", "render", "--driver", str(short_driver), "--rounds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["counts"] == {"videos": 4, "frames": 4, "rounds": 1}
    names = ["Mona Lisa, full", "Mona Lisa, crop", "512 px, T = 1", "512 px, T = 8"]
    assert [*found["figures"]] == [*names, "machine"]
    stages = ["decode", "detection", "networks", "encode", "drawing", "end to end"]
    for name in names:
        costs = found["figures"][name]
        assert [*costs] == stages
        parts = sum(costs[stage]["cpu_s"] for stage in stages[:4])
        assert found["ratios"][f"{name}: end to end over parts"] == pytest.approx(costs["end to end"]["cpu_s"] / parts)


def test_options_that_make_no_sense_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert sfumato.main(["bench", "render", "--rounds", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "rounds must be at least 1, got 0" in line
