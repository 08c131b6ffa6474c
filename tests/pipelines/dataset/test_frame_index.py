import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import storage
from pipelines.dataset import schema
from pipelines.dataset.frame_index import FrameRef, Frames, read_videos
from pipelines.dataset.index_file import IndexFile
from pipelines.dataset.shard_writer import write_rows


def write_index(root: str, shard: int, rows: list[tuple[str, str, str, int]]) -> IndexFile:
    """A shard without row groups beside an index of (identity, video, clip, number of frames) with random numbers."""
    rng = np.random.default_rng(shard)
    keys = [(identity, video, clip, i) for identity, video, clip, count in rows for i in range(count)]
    columns = dict(zip(("identity", "video", "clip", "frame_index"), zip(*keys, strict=True), strict=True))
    for field in schema.INDEX_SCHEMA:
        if field.name not in columns:
            columns[field.name] = rng.integers(0, 2**31 - 1, len(keys)).astype(field.type.to_pandas_dtype())
    sink = io.BytesIO()
    pq.write_table(pa.table(columns, schema.INDEX_SCHEMA), sink, compression="zstd")
    file = IndexFile(storage.join(root, f"{shard}.parquet"), storage.join(root, f"{shard}.index.parquet"), len(keys))
    storage.write_bytes(file.index_url, sink.getvalue())
    part = Path(root) / f"{shard}.parquet"
    write_rows(part, [])
    return file


SHARDS = (
    [("eve", "v1", "a", 3), ("ann", "v2", "x", 2), ("ann", "v2", "b", 4)],
    [("ann", "v1", "a", 5)],
    [("ann", "v2", "late", 2), ("ann", "v10", "a", 1), ("ann/", "v", "b", 1)],
)


def test_columns_hold_what_a_plain_reader_finds(tmp_path: Path) -> None:
    files = [write_index(str(tmp_path), shard, rows) for shard, rows in enumerate(SHARDS)]
    videos = read_videos(files)
    expected: dict[tuple[str, str], list[FrameRef]] = {}
    for file in files:
        for row in pq.read_table(file.index_url).to_pylist():
            names = FrameRef.__slots__
            ref = FrameRef(file.url, *(row[name] for name in names if name != "url"))
            expected.setdefault((row["identity"], row["video"]), []).append(ref)
    assert [video.video_id for video in videos] == ["ann/v1", "ann/v10", "ann/v2", "ann//v", "eve/v1"]
    assert [video.identity for video in videos] == ["ann", "ann", "ann", "ann/", "eve"]
    assert [[*video.frames] for video in videos] == [expected[key] for key in sorted(expected)]
    late = videos[2].frames  # ann/v2: six frames of the first shard, then two of the last
    assert [(ref.url, ref.clip) for ref in late[5:7]] == [(files[0].url, "b"), (files[2].url, "late")]


def test_frames_behave_like_a_tuple(tmp_path: Path) -> None:
    (video, *_) = read_videos([write_index(str(tmp_path), 0, [("ann", "v", "a", 5), ("bob", "v", "a", 2)])])
    whole = tuple(video.frames)
    assert isinstance(video.frames, Frames)
    assert len(video.frames) == len(whole) == 5
    assert (video.frames[0], video.frames[-1]) == (whole[0], whole[4])
    assert video.frames[1::2] == whole[1::2]
    assert video.frames == whole
    assert whole[2] in video.frames
    assert video.url == whole[0].url
    with pytest.raises(IndexError):
        video.frames[5]


def test_a_frame_costs_few_bytes(tmp_path: Path) -> None:
    (video,) = read_videos([write_index(str(tmp_path), 0, [("ann", "v", "a", 1000)])])
    assert isinstance(video.frames, Frames)
    arrays = [value for value in vars(video.frames.columns).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in arrays) == 36 * 1000


def test_a_broken_index_is_named(tmp_path: Path) -> None:
    file = write_index(str(tmp_path), 0, [("ann", "v", "a", 5)])
    with pytest.raises(ValueError, match=r"0\.index\.parquet is broken: 5 frames in 8 .* the manifest says 4"):
        read_videos([IndexFile(file.url, file.index_url, 4)])
    pq.write_table(pq.read_table(file.index_url).drop_columns(["jpeg_length"]), file.index_url)
    with pytest.raises(ValueError, match=r"0\.index\.parquet is broken: .* 7 of our columns"):
        read_videos([file])
    Path(file.index_url).write_bytes(b"PAR1 and nothing else PAR1")
    with pytest.raises(ValueError, match=r"0\.index\.parquet is broken"):
        read_videos([file])
    Path(file.index_url).unlink()
    with pytest.raises(FileNotFoundError, match=r"0\.index\.parquet"):
        read_videos([file])
    assert read_videos([]) == ()


@pytest.mark.slow
def test_data_sets_are_read_without_pandas() -> None:
    """The extras pipelines and dataflow do not install it."""
    code = (
        "import sys; sys.modules['pandas'] = None;"
        "import pipelines.commands.preprocess, pipelines.commands.validate, pipelines.commands.inspect"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
