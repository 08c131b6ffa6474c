import dataclasses
import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import storage
from pipelines.dataset import schema, shard_writer
from pipelines.dataset.manifest import MANIFEST, DatasetManifest, read_manifest
from pipelines.dataset.reader import ShardDataset, plain_chunks
from pipelines.dataset.rows import ClipRow, Reject
from pipelines.dataset.schema import ClipKey
from pipelines.dataset.shard_report import read_report
from pipelines.dataset.shard_writer import write_rows, write_shard
from pipelines.media.images import decode_jpeg, encode_jpeg
from pipelines.preprocess.config import ClipConfig
from pipelines.preprocess.quality import RejectReason

Fixture = Callable[..., Any]
HASHES = {"config_sha256": "c" * 64, "spec_sha256": "p" * 64}


def make_row(identity: str, video: str, clip: str, num_frames: int, seed: int = 0) -> ClipRow:
    rng = np.random.default_rng([seed, num_frames, *map(ord, identity + video + clip)])
    images = rng.integers(0, 255, (num_frames, 32, 32, 3), dtype=np.uint8)
    numbers = tuple(float(i) for i in range(num_frames))
    return ClipRow(
        key=ClipKey(identity, video, clip),
        source=f"{identity}/{video}/{clip}.mp4",
        source_sha256="0" * 64,
        fps=Fraction(30000, 1001),
        width=640,
        height=360,
        start_us=0,
        end_us=4_000_000,
        frame_index=tuple(range(5, 5 + num_frames)),
        frame_pts_us=tuple(i * 33_367 for i in range(num_frames)),
        frame_jpeg=tuple(encode_jpeg(image, 90) for image in images),
        landmarks=rng.uniform(0, 32, (num_frames, 68, 2)).astype(np.float32),
        landmark_score=numbers,
        bbox=rng.uniform(0, 99, (num_frames, 4)).astype(np.float32),
        crop_affine=np.array([[2.0, 0, 3], [0, 2, 4]]),
        yaw=numbers,
        pitch=numbers,
        roll=numbers,
        sharpness=numbers,
        brightness=numbers,
        mouth_openness=numbers,
        eye_openness=numbers,
        audio=b"sound" if clip == "a" else None,
        audio_format="m4a" if clip == "a" else None,
    )


ROWS = (
    make_row("ann", "v1", "a", 9),
    make_row("ann", "v1", "b", 16),
    make_row("ann", "v2", "a", 1),
    make_row("bob", "v1", "a", 12),
)


def write_dataset(root: str, rows: tuple[ClipRow, ...] = ROWS) -> DatasetManifest:
    report = write_shard(root, "train", 0, rows, (), seconds={"decode": 1.0}, **HASHES)
    manifest = DatasetManifest(
        schema_version=schema.SCHEMA_VERSION,
        code_version="0",
        config={"file_layout": "hive", "clip": dataclasses.asdict(ClipConfig(size=64)), "plan": {}, "weights": {}},
        config_sha256=HASHES["config_sha256"],
        plan_sha256="q" * 64,
        source="films",
        licence="CC0",
        counts={"done": len(rows)},
        codes={},
        shards=(report.entry,),
        episode_k_max=8,
        stage_seconds={"decode": 1.0},
    )
    storage.write_bytes(storage.join(root, "dataset.json"), manifest.to_json().encode())
    return manifest


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "set") if request.param == "local" else f"memory://{tmp_path.name}"


def test_every_frame_is_read_by_byte_range(root: str) -> None:
    write_dataset(root)
    dataset = ShardDataset(root)
    videos = dataset.videos("train")
    assert [(video.video_id, len(video.frames)) for video in videos] == [("ann/v1", 25), ("ann/v2", 1), ("bob/v1", 12)]
    assert dataset.videos("val") == ()
    rows = {row.key: row for row in ROWS}
    for video in videos:
        for frame, (jpeg, points) in zip(video.frames, dataset.read(video.frames), strict=True):
            row = rows[ClipKey(video.identity, video.video_id.partition("/")[2], frame.clip)]
            i = row.frame_index.index(frame.frame_index)
            assert jpeg == row.frame_jpeg[i]
            assert decode_jpeg(jpeg).shape == (32, 32, 3)
            assert np.array_equal(points, row.landmarks[i])


def test_an_ordinary_parquet_reader_gets_the_same_rows(tmp_path: Path) -> None:
    write_rows(tmp_path / "part", ROWS)
    file = pq.ParquetFile(tmp_path / "part")
    assert file.metadata.num_row_groups == 3  # one per source video
    table = file.read()
    assert table.schema.equals(schema.CLIP_SCHEMA)
    rows = table.to_pylist()
    assert [row["clip"] for row in rows] == ["a", "b", "a", "a"]
    assert rows[1]["frame_jpeg"] == list(ROWS[1].frame_jpeg)
    assert np.allclose(np.array(rows[1]["landmarks"]).reshape(-1, 68, 2), ROWS[1].landmarks)
    assert rows[1]["audio"] is None
    assert rows[0]["audio"] == b"sound"
    assert (rows[0]["fps_numerator"], rows[0]["fps_denominator"]) == (30000, 1001)
    assert rows[0]["crop_affine"] == [2, 0, 3, 0, 2, 4]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    a, b = (write_shard(str(tmp_path / name), "train", 0, ROWS, (), seconds={}, **HASHES) for name in "ab")
    assert (a.sha256, a.index_sha256) == (b.sha256, b.index_sha256)


@pytest.mark.parametrize(
    "wrong", [{"use_dictionary": True}, {"compression": "zstd"}, {"column_encoding": {}, "use_dictionary": True}]
)
def test_a_shard_rewritten_with_other_encodings_is_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    write_dataset(str(tmp_path))
    path = tmp_path / "clips" / "split=train" / "part-00000.parquet"
    table = pq.read_table(path)
    options = {"compression": "none", "use_dictionary": False, **{k: v for k, v in wrong.items() if v != {}}}
    pq.write_table(table, path, **options)
    with pytest.raises(ValueError, match=r"part-00000\.parquet is broken: column .* must be PLAIN"):
        ShardDataset(str(tmp_path)).videos("train")


def test_a_file_without_the_columns_is_refused() -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"x": [1]}), buffer)
    with pytest.raises(ValueError, match="no column frame_jpeg"):
        plain_chunks(pq.read_metadata(io.BytesIO(buffer.getvalue())))


def test_a_damaged_frame_is_noticed_and_named(tmp_path: Path) -> None:
    write_dataset(str(tmp_path))
    dataset = ShardDataset(str(tmp_path))
    frame = dataset.videos("train")[0].frames[3]
    path = tmp_path / "clips" / "split=train" / "part-00000.parquet"
    data = bytearray(path.read_bytes())
    data[frame.jpeg_offset + 50] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="frame 8 of clip a is damaged"):
        dataset.read([frame])
    path.write_bytes(data[: frame.jpeg_offset + 10])
    with pytest.raises(OSError, match="ends early"):
        dataset.read([frame])
    path.unlink()
    with pytest.raises(FileNotFoundError):
        dataset.videos("train")


def test_the_writer_proves_its_offsets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A page limit that splits the column puts page headers between the frames.
    monkeypatch.setattr(shard_writer, "_ONE_PAGE", 2000)
    monkeypatch.setattr(shard_writer, "write_rows", lambda file, rows: _write_split_pages(file, rows))
    with pytest.raises(OSError, match="not what was written"):
        write_shard(str(tmp_path), "train", 0, ROWS, (), seconds={}, **HASHES)
    assert not (tmp_path / "train").exists()


def _write_split_pages(file: Path, rows: tuple[ClipRow, ...]) -> None:
    records = [shard_writer._record(row) for row in rows]
    with pq.ParquetWriter(
        file, schema.CLIP_SCHEMA, compression="none", use_dictionary=False, data_page_size=2000, write_batch_size=1
    ) as writer:
        for video in ("ann/v1", "ann/v2", "bob/v1"):
            members = [r for r in records if f"{r['identity']}/{r['video']}" == video]
            writer.write_table(pa.Table.from_pylist(members, schema.CLIP_SCHEMA))


def test_the_report_comes_last_and_counts_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    upload = shard_writer._upload
    monkeypatch.setattr(shard_writer, "_upload", lambda file, url: (written.append(url), upload(file, url)))
    write = storage.write_bytes
    monkeypatch.setattr(storage, "write_bytes", lambda url, data: (written.append(url), write(url, data)))
    rejects = [
        Reject(ClipKey("x", "v", str(i)), "x.mp4", "detect", reason.status, str(reason), "why", reason.retryable)
        for i, reason in enumerate([RejectReason.NO_FACE, RejectReason.NO_FACE, RejectReason.INTERNAL])
    ]
    report = write_shard(str(tmp_path), "val", 7, ROWS[:2], rejects, seconds={"a": 1.23456}, **HASHES)
    assert (report.num_done, report.num_rejected, report.num_failed, report.num_frames) == (2, 2, 1, 25)
    assert report.codes == {"internal": 1, "no_face": 2}
    assert written[-1].endswith("reports/part-00007.json")
    assert read_report(written[-1]) == report
    rows = pq.read_table(tmp_path / "rejects" / "part-00007.parquet").to_pylist()
    assert [(row["clip"], row["code"], row["retryable"]) for row in rows] == [
        ("0", "no_face", False),
        ("1", "no_face", False),
        ("2", "internal", True),
    ]


def test_a_shard_without_rows_is_still_a_shard(tmp_path: Path) -> None:
    assert write_shard(str(tmp_path), "train", 0, (), (), seconds={}, **HASHES).num_frames == 0
    assert pq.read_table(tmp_path / "clips" / "split=train" / "part-00000.parquet").num_rows == 0


def test_a_manifest_round_trips_and_its_digest_ignores_the_clock(tmp_path: Path) -> None:
    manifest = write_dataset(str(tmp_path))
    again = read_manifest(str(tmp_path))
    assert again == manifest
    assert (again.size, again.detector, again.frames_per_clip, again.crop_rule.margin) == (64, "mediapipe", 16, 2.0)
    slower = dataclasses.replace(manifest, stage_seconds={"decode": 2.0})
    other = dataclasses.replace(manifest, plan_sha256="r" * 64)
    assert slower.digest == manifest.digest != other.digest


def test_a_missing_or_foreign_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no dataset\.json"):
        ShardDataset(str(tmp_path))
    manifest = write_dataset(str(tmp_path))
    path = tmp_path / MANIFEST
    path.write_text(manifest.to_json().replace('"schema_version": 2', '"schema_version": 99'))
    with pytest.raises(ValueError, match="schema version 99"):
        ShardDataset(str(tmp_path))
    path.write_text(manifest.to_json().replace('"licence"', '"license"'))
    with pytest.raises(ValueError, match="licen"):
        ShardDataset(str(tmp_path))
    path.write_text("not json")
    with pytest.raises(ValueError, match="not a data set manifest"):
        ShardDataset(str(tmp_path))


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    write_dataset(str(tmp_path))
    with pytest.raises(ValueError, match="'dev'"):
        ShardDataset(str(tmp_path)).videos("dev")


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "x" * 301])
def test_a_key_holds_names_and_no_paths(name: str) -> None:
    with pytest.raises(ValueError, match="identity must be"):
        ClipKey(name, "v", "c")
