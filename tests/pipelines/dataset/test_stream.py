import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines import storage
from pipelines.dataset import stream as stream_module
from pipelines.dataset.manifest import DatasetManifest
from pipelines.dataset.paths import shard_paths
from pipelines.dataset.reader import ShardDataset
from pipelines.dataset.rows import ClipRow
from pipelines.dataset.schema import SCHEMA_VERSION, ClipKey
from pipelines.dataset.shard_writer import write_shard

HASHES = {"config_sha256": "c" * 64, "spec_sha256": "p" * 64}
SHARDS = ([("eve", "v", "a", 3), ("eve", "v", "b", 2), ("bob", "v", "a", 4)], [("ann", "v", "a", 5)])


def make_row(identity: str, video: str, clip: str, num_frames: int) -> ClipRow:
    rng = np.random.default_rng([num_frames, *map(ord, identity + video + clip)])
    images = rng.integers(0, 255, (num_frames, 16, 16, 3), dtype=np.uint8)
    measures = {
        name: tuple(rng.uniform(0, 9, num_frames).astype(np.float32).tolist())
        for name in ("yaw", "pitch", "roll", "sharpness", "brightness", "mouth_openness", "eye_openness")
    }
    return ClipRow(
        key=ClipKey(identity, video, clip),
        source=f"{clip}.mp4",
        source_sha256="0" * 64,
        fps=Fraction(25),
        width=64,
        height=64,
        start_us=0,
        end_us=1,
        frame_index=tuple(range(7, 7 + num_frames)),
        frame_pts_us=tuple(range(num_frames)),
        frame_jpeg=tuple(cv2.imencode(".jpg", image)[1].tobytes() for image in images),
        landmarks=rng.uniform(0, 16, (num_frames, 68, 2)).astype(np.float32),
        landmark_score=tuple([1.0] * num_frames),
        bbox=np.zeros((num_frames, 4), np.float32),
        crop_affine=np.array([[1.0, 0, 0], [0, 1, 0]]),
        audio=b"sound" * 50,
        audio_format="m4a",
        **measures,
    )


@pytest.fixture(params=["local", "memory"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> ShardDataset:
    """Two shards, a row group each video: eve's two clips and bob's, then ann's."""
    root = str(tmp_path / "set") if request.param == "local" else f"memory://{tmp_path.name}"
    reports = [
        write_shard(root, "train", shard, [make_row(*row) for row in rows], (), seconds={}, **HASHES)
        for shard, rows in enumerate(SHARDS)
    ]
    manifest = DatasetManifest(
        schema_version=SCHEMA_VERSION,
        code_version="0",
        config={"file_layout": "hive"},
        config_sha256="c" * 64,
        plan_sha256="q" * 64,
        source="films",
        licence="CC0",
        counts={},
        codes={},
        shards=tuple(report.entry for report in reports),
        episode_k_max=1,
        stage_seconds={},
    )
    storage.write_bytes(storage.join(root, "dataset.json"), manifest.to_json().encode())
    return ShardDataset(root)


@pytest.mark.parametrize("piece_bytes", [1, 2500, 2**24])
def test_the_stream_is_what_a_plain_reader_finds(
    dataset: ShardDataset, piece_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "_PIECE_BYTES", piece_bytes)
    rows = []
    for shard in (0, 1):
        with storage.open(storage.join(dataset.root, shard_paths("train", shard).part)) as file:
            rows += pq.read_table(file).to_pylist()
    clips = [*dataset.stream("train")]
    assert [str(clip.key) for clip in clips] == ["eve/v/a", "eve/v/b", "bob/v/a", "ann/v/a"]
    for clip, row in zip(clips, rows, strict=True):
        assert [*clip.jpegs] == row["frame_jpeg"]
        assert np.array_equal(clip.landmarks.reshape(-1, 136), np.array(row["landmarks"], np.float32))
        for name in (
            "frame_index",
            "frame_pts_us",
            "landmark_score",
            "yaw",
            "pitch",
            "roll",
            "sharpness",
            "brightness",
        ):
            assert getattr(clip, name).tolist() == row[name]
    assert [*dataset.stream("val")] == []


def test_a_row_group_is_one_read(dataset: ShardDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    read, asked = dataset.read, []

    def count(frames: Sequence[object]) -> object:
        asked.append(len(frames))
        return read(frames)  # type: ignore[arg-type]

    monkeypatch.setattr(dataset, "read", count)
    assert len([*dataset.stream("train")]) == 4
    assert asked == [9, 5]  # shards smaller than a piece: one read each


def test_reading_stays_one_piece_ahead(dataset: ShardDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "_PIECE_BYTES", 1)
    read, asked = dataset.read, []

    def count(frames: Sequence[object]) -> object:
        asked.append(len(frames))
        return read(frames)  # type: ignore[arg-type]

    monkeypatch.setattr(dataset, "read", count)
    stream = dataset.stream("train")
    next(stream)
    assert len(asked) <= 2
    stream.close()  # type: ignore[attr-defined]
    assert len(asked) <= 2


def test_a_damaged_frame_is_named_with_shard_and_clip(dataset: ShardDataset) -> None:
    url = storage.join(dataset.root, shard_paths("train", 0).part)
    frame = dataset.videos("train")[2].frames[4]  # the last of eve/v, which is of clip b
    data = bytearray(storage.read_bytes(url))
    data[frame.jpeg_offset + 20] ^= 1
    storage.write_bytes(url, bytes(data))
    with pytest.raises(ValueError, match=rf"{url}: frame \d+ of clip b is damaged"):
        list(dataset.stream("train"))


def test_a_missing_or_broken_shard_is_named(dataset: ShardDataset) -> None:
    url = storage.join(dataset.root, shard_paths("train", 1).part)
    data = storage.read_bytes(url)
    storage.write_bytes(url, data[:-100])
    with pytest.raises(ValueError, match=f"{url} is broken"):
        list(dataset.stream("train"))
    storage.remove(url)
    with pytest.raises(FileNotFoundError, match="part-00001"):
        list(dataset.stream("train"))
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        dataset.stream("dev")


def test_every_column_of_a_clip_has_its_frames(dataset: ShardDataset) -> None:
    for clip in dataset.stream("train"):
        lengths = {len(getattr(clip, field.name)) for field in dataclasses.fields(clip) if field.name != "key"}
        assert lengths == {len(clip.jpegs)}
