"""Motion files, ARKit recordings and key frames as drivers of `sfumato animate`, through the real commands."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import assets
from pipelines.media.frame_times import FrameTimes
from pipelines.media.video import VideoWriter, decode, probe
from pipelines.storage.parquet import read_table
from training.animation.driver_track import DriverTrack
from training.animation.motion.face_motion import canonical_rest
from training.animation.motion.motion_file import SCHEMA, write_motion

Run = Callable[..., subprocess.CompletedProcess[str]]


def cut(clip: Path, out: Path, frames: int = 5) -> Path:
    """The first frames of a clip, without its sound."""
    info = probe(clip)
    width, height = info.width // 2 * 2, info.height // 2 * 2
    with VideoWriter(out, width=width, height=height, fps=info.fps, crf=1) as writer:
        for frame, _ in zip(decode(clip), range(frames), strict=False):
            writer.write(np.ascontiguousarray(frame.image[:height, :width]))
    return out


def packets(film: Path) -> list[bytes]:
    """The coded frames of a film."""
    with av.open(str(film)) as container:
        return [bytes(packet) for packet in container.demux() if packet.size]


@pytest.fixture(scope="module")
def drivers(tmp_path_factory: pytest.TempPathFactory, run_sfumato: Run) -> Path:
    """A folder with film.mp4, its motion as film.motion.parquet and take.csv, and key frames."""
    folder = tmp_path_factory.mktemp("drivers")
    film = cut(assets.fetch("clip_carphone"), folder / "film.mp4")
    for name in ("film.motion.parquet", "take.csv"):
        done = run_sfumato("motion", str(film), "-o", str(folder / name), "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["counts"] == {"frames": 5}
    (folder / "keys.csv").write_text("time,smile,yaw\n0,0,0\n0.2,1,10\n")
    return folder


@pytest.mark.slow
def test_a_motion_file_drives_byte_for_byte_like_its_film(drivers: Path, run_sfumato: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = ("film.mp4", "film.motion.parquet", "take.csv", "keys.csv")
    done = run_sfumato(
        *("animate", "-s", str(assets.fetch("mona_lisa")), "-o", str(out), "--max-size", "96", "--no-mosaic"),
        *(flag for name in names for flag in ("-d", str(drivers / name))),
        *("--device", "cpu", "--json"),
    )
    assert done.returncode == 0, done.stderr
    source = assets.fetch("mona_lisa").stem
    films = {name: out / f"{source}--{Path(name).stem}.mp4" for name in names}
    # The credentials name other drivers and times; what they are signed over is the same.
    assert packets(films["film.mp4"]) == packets(films["film.motion.parquet"])
    done_verifying = run_sfumato("verify", *map(str, films.values()), "--lineage", "--json")
    assert done_verifying.returncode == 0, done_verifying.stderr
    facts = json.loads(done_verifying.stdout.splitlines()[-1])["files"][1]["facts"]
    assert facts["command"] == (
        f"sfumato animate -s {assets.fetch('mona_lisa').name} -d film.motion.parquet -o videos --max-size 96"
    )
    assert probe(films["take.csv"]).num_frames == 5
    assert probe(films["keys.csv"]).num_frames == 6  # 0.2 s at 25 frames a second, both ends included
    assert [path.name for path in out.glob("*.side-by-side.mp4")] == [f"{source}--film.side-by-side.mp4"]
    note = "the driver is motion without a film: no sound and no side-by-side video"
    notes = json.loads(done.stdout.splitlines()[-1])["notes"]
    assert [line for line in notes if note in line] == [
        f"{source}--film.motion: {note}",
        f"{source}--take: {note}",
        f"{source}--keys: {note}",
    ]


def _bad_motion(folder: Path) -> dict[str, str]:
    """Write files of motion that cannot be used (49 in the list of bad inputs); return name -> words of the reason."""
    (folder / "keys.csv").write_text("time,smile\n0,0\n1,5\n")
    (folder / "no.parquet").write_bytes(b"PAR1")
    (folder / "pickle.parquet").write_bytes(pickle.dumps(_Explodes(), protocol=4))
    (folder / "header.parquet").write_bytes(b"PAR1" + bytes(64) + struct.pack("<I", 2**31 - 1) + b"PAR1")
    (folder / "header.csv").write_text(",".join(f"c{number}" for number in range(200_000)) + "\n")
    (folder / "speech.wav").write_text("no sound")
    (folder / "number.csv").write_text("time,smile\n0,nan\n")
    landmarks = np.repeat(canonical_rest().landmarks[None], 3, axis=0)
    times = FrameTimes(np.arange(3) / 25, Fraction(25), constant=True)
    track = DriverTrack(landmarks, np.full((3, 2, 2), np.nan, np.float32), np.ones(3, bool), times, "mediapipe")
    write_motion(track, str(folder / "good.parquet"))
    good = pq.read_table(folder / "good.parquet")
    at = good.column_names.index("landmarks")
    for name, values in (("nan", landmarks * np.nan), ("zeros", landmarks * 0), ("vast", landmarks * 1e30)):
        column = pa.FixedSizeListArray.from_arrays(values.astype(np.float32).ravel(), 136)
        pq.write_table(good.set_column(at, SCHEMA.field("landmarks"), column), folder / f"{name}.parquet")
    short = pa.FixedSizeListArray.from_arrays(landmarks[:, :67].ravel(), 134)
    pq.write_table(good.set_column(at, pa.field("landmarks", short.type), short), folder / "count.parquet")
    version = good.schema.metadata | {b"sfumato_motion": b"9"}
    pq.write_table(good.replace_schema_metadata(version), folder / "version.parquet")
    return {
        "keys.csv": "line 3: smile must be a number in [-1, 1], got '5'",
        "number.csv": "line 2: smile must be a number in [-1, 1], got 'nan'",
        "speech.wav": "is no sound file that can be read",
        "header.csv": "line 1: 200,000 columns, at most 1,000 are read",
        "no.parquet": "is no motion file: no Parquet file that can be read",
        "pickle.parquet": "is no motion file: no Parquet file that can be read",
        "header.parquet": "is no motion file: no Parquet file that can be read",
        "count.parquet": "the column landmarks is missing or not fixed_size_list",
        "version.parquet": "is a motion file of version 9, not 1",
        "nan.parquet": "landmarks that are no numbers",
        "zeros.parquet": "landmarks that are no face",
        "vast.parquet": "landmarks that are no face",
    }


class _Explodes:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return os._exit, (3,)


@pytest.mark.slow
def test_mistakes_in_files_of_motion_are_one_line_with_its_number(run_sfumato: Run, tmp_path: Path) -> None:
    folder, out = tmp_path / "bad", tmp_path / "out"
    folder.mkdir()
    words = _bad_motion(folder)
    with wave.open(str(folder / "silence.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 3200))
    done = run_sfumato(
        *("animate", "-s", str(assets.fetch("mona_lisa")), "-o", str(out), "--max-size", "64", "--device", "cpu"),
        *(flag for name in (*words, "good.parquet", "silence.wav") for flag in ("-d", str(folder / name))),
    )
    assert done.returncode == 0, done.stderr  # of the good one
    assert "Traceback" not in done.stderr
    rows = [row for path in (out / "report").iterdir() for row in read_table(str(path)).to_pylist()]
    reasons = {Path(row["driver"]).name: row["reason"] for row in rows}
    assert reasons.pop("good.parquet") is None
    assert reasons.pop("silence.wav") is None
    spoken = probe(out / f"{assets.fetch('mona_lisa').stem}--silence.mp4")
    assert (spoken.num_frames, spoken.fps, spoken.has_audio) == (5, 25, True)
    assert reasons.keys() == words.keys()
    for name, reason in reasons.items():
        assert words[name] in reason
        assert str(folder / name) in reason
        assert len(reason.splitlines()) == 1
        assert len(reason) < 500


@pytest.mark.slow
def test_mistakes_of_motion_are_one_line(run_sfumato: Run, tmp_path: Path, make_video: Callable[..., Path]) -> None:
    empty = make_video("grey.mp4", [10, 20])
    cases = [
        ((str(empty), "-o", "x.npy"), "x.npy: the name of the output ends with .parquet or .csv", 2),
        ((str(tmp_path / "none.mp4"), "-o", "x.csv"), f"{tmp_path}/none.mp4 does not exist", 2),
        ((str(empty), "-o", str(tmp_path / "x.csv")), f"{empty}: no face found in any frame", 1),
    ]
    for arguments, message, code in cases:
        done = run_sfumato("motion", *arguments)
        assert (done.stderr, done.returncode) == (f"sfumato motion: error: {message}\n", code)
    assert not (tmp_path / "x.csv").exists()
