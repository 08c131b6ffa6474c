"""Seconds and memory to open a data set of VoxCeleb2's size: 150,000 videos, 17 million frames.

    python tests/benchmarks/frame_index_scale.py [FOLDER] [NUM_SHARDS]

Every index is written in full; one small shard stands for all of them through hard links, so that every footer is
read and checked while the pictures, 400 GB, are left out.
"""

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.dataset import schema
from pipelines.dataset.frame_index import read_videos
from pipelines.dataset.index_file import IndexFile

_VIDEOS, _FRAMES = 50, 113  # of a shard: seven clips of 16 frames a video, and one frame more


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="sfumato-"))
    num_shards = int(sys.argv[2]) if len(sys.argv) > 2 else 3000
    files = [_write(folder, shard) for shard in range(num_shards)]
    before = _memory()
    started = time.perf_counter()
    videos = read_videos(files)
    seconds = time.perf_counter() - started
    num_frames = sum(len(video.frames) for video in videos)
    print(f"{len(videos)} videos, {num_frames} frames in {num_shards} shards: {seconds:.1f} s")  # noqa: T201
    print(f"resident memory {before:.2f} -> {_memory():.2f} GB, at most {_peak():.2f} GB")  # noqa: T201
    rng = np.random.default_rng(0)
    started = time.perf_counter()
    for number in rng.integers(0, len(videos), 10_000).tolist():
        frames = videos[number].frames
        for _ in range(9):
            frames[int(rng.integers(len(frames)))]
    print(f"{(time.perf_counter() - started) / 90_000 * 1e6:.1f} µs for one FrameRef, drawn at random")  # noqa: T201


def _write(folder: Path, shard: int) -> IndexFile:
    part, index = folder / f"{shard:05d}.parquet", folder / f"{shard:05d}.index.parquet"
    if not index.exists():
        first = folder / "00000.parquet"
        if shard == 0:
            _write_part(first)
        else:
            os.link(first, part)
        _write_index(index, shard)
    return IndexFile(str(part), str(index), _VIDEOS * _FRAMES)


def _write_part(path: Path) -> None:
    columns = {}
    for field in schema.CLIP_SCHEMA:
        if pa.types.is_list(field.type):
            value = [b"x"] if field.name == "frame_jpeg" else [[0.0] * 136] if field.name == "landmarks" else []
        else:
            value = None if field.nullable else "x" if pa.types.is_string(field.type) else 0
            value = [0.0] * 6 if field.name == "crop_affine" else value
        columns[field.name] = pa.array([value], field.type)
    row = pa.table(columns, schema.CLIP_SCHEMA)
    with pq.ParquetWriter(
        path, schema.CLIP_SCHEMA, compression="none", use_dictionary=False, write_statistics=False
    ) as writer:
        for _ in range(_VIDEOS):
            writer.write_table(row)


def _write_index(path: Path, shard: int) -> None:
    rng = np.random.default_rng(shard)
    count = _VIDEOS * _FRAMES
    # Identities are hashed to shards in no order: the reader has to arrange them.
    videos = [f"id{rng.integers(10**6):06d}/{rng.bytes(6).hex()}" for _ in range(_VIDEOS)]
    names = np.repeat(videos, _FRAMES)
    columns: dict[str, object] = {
        "identity": [name.split("/")[0] for name in names],
        "video": [name.split("/")[1] for name in names],
        "clip": [f"{i % _FRAMES // 16:05d}" for i in range(count)],
        "jpeg_offset": np.cumsum(rng.integers(15_000, 35_000, count)),
        "jpeg_length": rng.integers(15_000, 35_000, count),
        "landmarks_offset": np.cumsum(np.full(count, 24_000)),
    }
    for field in schema.INDEX_SCHEMA:
        if field.name not in columns:
            columns[field.name] = rng.integers(0, 2**31 - 1, count).astype(field.type.to_pandas_dtype())
    arrays = {field.name: pa.array(columns[field.name], field.type) for field in schema.INDEX_SCHEMA}
    pq.write_table(pa.table(arrays, schema.INDEX_SCHEMA), path, compression="zstd")


def _memory() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e9


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
