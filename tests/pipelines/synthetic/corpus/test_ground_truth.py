import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.synthetic.corpus.ground_truth import Truth, read_truth, write_truth
from pipelines.synthetic.head.arkit_actions import ACTIONS


def small_truth(num_frames: int = 7) -> Truth:
    rng = np.random.default_rng(0)
    return Truth(
        rng.uniform(0, 256, (num_frames, 68, 2)).astype(np.float32),
        rng.uniform(-30, 30, (num_frames, 3)).astype(np.float32),
        rng.uniform(-0.1, 0.1, (num_frames, 3)).astype(np.float32),
        rng.random((num_frames, 52), np.float32),
    )


@pytest.mark.parametrize("root", ["local", "memory"])
def test_truth_comes_back_as_it_was(root: str, tmp_path: Path) -> None:
    clip = (f"{tmp_path}" if root == "local" else "memory://truth") + "/id20001/v0001/00001.mp4"
    truth = small_truth()
    write_truth(clip, truth, {})
    again = read_truth(clip)
    for part in ("points", "angles", "travel", "actions"):
        np.testing.assert_array_equal(getattr(again, part), getattr(truth, part))


def test_file_explains_itself_to_anybody_with_a_parquet_reader(tmp_path: Path) -> None:
    truth = small_truth()
    write_truth(str(tmp_path / "a.mp4"), truth, {"fps": "25", "clip": "id20001/v0001/00001"})
    table = pq.read_table(tmp_path / "a.parquet")
    assert table["frame"].to_pylist() == [0, 1, 2, 3, 4, 5, 6]
    assert table["yaw"].to_pylist() == truth.angles[:, 0].tolist()
    assert table["points"][3].as_py() == truth.points[3].reshape(-1).tolist()
    assert table["blendshapes"][6].as_py() == truth.actions[6].tolist()
    assert json.loads(table.schema.metadata[b"actions"]) == list(ACTIONS)
    assert table.schema.metadata[b"fps"] == b"25"
    units = {field.name: field.metadata[b"unit"].decode() for field in table.schema}
    assert units["yaw"] == "degrees; positive turns the face to the picture's right"
    assert units["points"].startswith("pixels")


def test_same_truth_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_truth(str(tmp_path / f"{name}.mp4"), small_truth(), {"fps": "25"})
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_missing_broken_and_foreign_truths_are_told_apart(tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    with pytest.raises(FileNotFoundError, match=r"a\.parquet"):
        read_truth(str(clip))
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(ValueError, match=r"a\.parquet cannot be read"):
        read_truth(str(clip))
    pq.write_table(pq.ParquetFile(_good(tmp_path)).read(["frame", "yaw"]), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet is not the truth of a synthetic clip"):
        read_truth(str(clip))


def _good(folder: Path) -> Path:
    write_truth(str(folder / "good.mp4"), small_truth(), {})
    return folder / "good.parquet"
