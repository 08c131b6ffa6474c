from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.faces.head_pose import CANONICAL_LANDMARKS
from pipelines.media.frame_times import FrameTimes
from pipelines.synthetic.head.arkit_actions import ACTIONS
from training.animation.driver_track import DriverTrack
from training.animation.motion.drivers import read_motion
from training.animation.motion.motion_file import SCHEMA, read_motion_file, write_motion


def film(frames: int = 4) -> DriverTrack:
    """A face that trembles, with unknown gaze in frame 1 and a rate that varies."""
    rng = np.random.default_rng(3)
    landmarks = (CANONICAL_LANDMARKS[:, :2] * 7 + [200, 150] + rng.normal(0, 0.3, (frames, 68, 2))).astype(np.float32)
    gaze = rng.uniform(0.4, 0.6, (frames, 2, 2)).astype(np.float32)
    gaze[1] = np.nan
    times = FrameTimes(np.array([0.0, 0.033, 0.1, 0.2])[:frames], Fraction(30000, 1001), constant=False)
    return DriverTrack(landmarks, gaze, np.array([True, False, True, True])[:frames], times, "mediapipe")


def test_a_track_comes_back_bit_for_bit(tmp_path: Path) -> None:
    track, path = film(), tmp_path / "ann.motion.parquet"
    write_motion(track, str(path))
    back = read_motion_file(path)
    assert back.landmarks.tobytes() == track.landmarks.tobytes()
    assert back.gaze.tobytes() == track.gaze.tobytes()
    assert back.times.seconds.tobytes() == track.times.seconds.tobytes()
    assert back.found.tolist() == [True, False, True, True]
    assert (back.times.fps, back.times.constant) == (Fraction(30000, 1001), False)
    assert (back.detector, back.rest, back.exact, back.adds) == ("mediapipe", None, False, False)


def test_key_frames_stay_relative_to_their_own_rest(tmp_path: Path) -> None:
    keys, path = tmp_path / "keys.csv", tmp_path / "keys.parquet"
    keys.write_text("time,smile\n0,1\n0.08,0.5\n")
    track = read_motion(keys, "dlib")
    write_motion(track, str(path))
    back = read_motion(path, "mediapipe")
    assert back.rest is not None
    assert track.rest is not None
    assert back.rest.landmarks.tobytes() == track.rest.landmarks.tobytes()
    assert (back.exact, back.adds, back.detector, len(back)) == (True, True, "dlib", 3)
    smiles = pq.read_table(path)["mouthSmileLeft"].to_pylist()
    assert smiles[0] > 0.6 > smiles[2] > 0.3


def test_any_reader_of_parquet_finds_the_documented_columns(tmp_path: Path) -> None:
    path = tmp_path / "ann.motion.parquet"
    write_motion(film(), str(path))
    table = pq.read_table(path)
    assert table.column_names == [
        *("time", "found", "yaw", "pitch", "roll", "scale", "x", "y"),
        *ACTIONS,
        *("landmarks", "gaze"),
    ]
    assert table["scale"].to_pylist() == pytest.approx([7] * 4, rel=0.05)  # pixels per centimetre, as drawn
    assert all(0 <= value <= 1 for name in ACTIONS for value in table[name].to_pylist())
    assert len(table["landmarks"][0].as_py()) == 136


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metadata": {}}, "is no motion file: a Parquet file without 'sfumato_motion' in its metadata"),
        ({"metadata": {"sfumato_motion": "9"}}, "is a motion file of version 9, not 1"),
        ({"metadata": {"fps": "0"}}, ": its fps '0' is no rate"),
        ({"metadata": {"fps": "1/0"}}, ": its fps '1/0' is no rate"),
        ({"column": ("landmarks", None)}, ": the column landmarks is missing or not fixed_size_list"),
        ({"column": ("time", [0.0, 0.2, 0.1, 0.3])}, ": its times do not ascend"),
        ({"column": ("time", [0.0, None, 0.1, 0.3])}, ": a column holds no value in some frame"),
        ({"rows": 0}, "holds no frame"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "ann.motion.parquet"
    write_motion(film(), str(path))
    table = pq.read_table(path)
    metadata = dict(table.schema.metadata)
    match change:
        case {"metadata": dict(given)}:
            changed = {name.encode(): value.encode() for name, value in given.items()}
            table = table.replace_schema_metadata(metadata | changed if given else {})
        case {"column": (str(name), values)}:
            at = table.column_names.index(name)
            table = table.remove_column(at)
            if values is not None:
                table = table.add_column(at, SCHEMA.field(name), pa.array(values, SCHEMA.field(name).type))
            table = table.replace_schema_metadata(metadata)
        case {"rows": 0}:
            table = table.slice(0, 0)
    pq.write_table(table, path)
    with pytest.raises(ValueError) as caught:
        read_motion_file(path)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert message in said
    assert "\n" not in said


def test_bytes_that_are_no_parquet_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ann.motion.parquet"
    write_motion(film(), str(path))
    whole = path.read_bytes()
    for data in (b"", b"no parquet", whole[:200], whole[:-50]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"parquet is no motion file: no Parquet file that can be read"):
            read_motion_file(path)
