"""Write a shard in which every frame is a byte range, and verify it by reading the ranges back."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.dataset import schema
from pipelines.dataset.paths import HIVE, shard_paths
from pipelines.dataset.pose_counts import count_poses
from pipelines.dataset.reader import plain_chunks
from pipelines.dataset.rows import ClipRow, Reject
from pipelines.dataset.shard_report import ShardReport
from pipelines.storage.hashing import sha256_of

_PART_COLUMNS = (*schema.FRAME_TIMES, *schema.FRAME_SCORES, *schema.FRAME_MEASURES)
_ONE_PAGE = 2**30  # bytes: a column chunk is then one page, and its values are contiguous at the chunk's end


def write_shard(
    root: str,
    split: str,
    shard: int,
    rows: Sequence[ClipRow],
    rejects: Sequence[Reject],
    *,
    config_sha256: str,
    spec_sha256: str,
    num_retried: int = 0,
    seconds: Mapping[str, float],
    layout: str = HIVE,
) -> ShardReport:
    """Write shard, index, rejects and, last, the report. Existing files are replaced, so a retry does no harm.

    Args:
        layout: where the files go: see `pipelines.dataset.paths`.

    Raises:
        ValueError: the frames of one source video exceed 1 GiB.
        OSError: storage fails, or what was written does not read back.
    """
    paths = shard_paths(split, shard, layout)
    with storage.ScratchFolder() as folder:
        part, index = Path(folder) / "part", Path(folder) / "index"
        write_rows(part, rows)
        pq.write_table(pa.Table.from_pylist(index_rows(part, rows), schema.INDEX_SCHEMA), index, compression="zstd")
        _upload(part, storage.join(root, paths.part))
        _upload(index, storage.join(root, paths.index))
        rejects_sha256 = _write_rejects(storage.join(root, paths.rejects), rejects, Path(folder) / "rejects")
        codes: dict[str, int] = {}
        for reject in rejects:
            codes[reject.code] = codes.get(reject.code, 0) + 1
        report = ShardReport(
            split=split,
            shard=shard,
            config_sha256=config_sha256,
            spec_sha256=spec_sha256,
            num_done=len(rows),
            num_rejected=sum(reject.status == "rejected" for reject in rejects),
            num_failed=sum(reject.status == "failed" for reject in rejects),
            num_retried=num_retried,
            num_frames=sum(len(row.frame_jpeg) for row in rows),
            min_clip_frames=min((len(row.frame_jpeg) for row in rows), default=0),
            num_bytes=part.stat().st_size,
            sha256=sha256_of(part),
            index_sha256=sha256_of(index),
            rejects_sha256=rejects_sha256,
            codes=dict(sorted(codes.items())),
            seconds={stage: round(value, 4) for stage, value in seconds.items()},
            source_us=sum(row.end_us - row.start_us for row in rows),
            spread=count_poses(rows),
        )
    storage.write_bytes(storage.join(root, paths.report), report.to_json().encode())
    return report


def _upload(file: Path, url: str) -> None:
    with file.open("rb") as source, storage.atomic_write(url) as sink:
        shutil.copyfileobj(source, sink, 1 << 20)


def _write_rejects(url: str, rejects: Sequence[Reject], scratch: Path) -> str:
    if not rejects:
        storage.remove(url)  # left by an earlier attempt
        return ""
    rows = [{**asdict(reject), **asdict(reject.key), **asdict(reject.measures)} for reject in rejects]
    pq.write_table(pa.Table.from_pylist(rows, schema.REJECT_SCHEMA), scratch)
    _upload(scratch, url)
    return sha256_of(scratch)


def write_rows(file: Path, rows: Sequence[ClipRow]) -> None:
    """Write the Parquet file: one row group per source video, in the order of the rows."""
    groups: dict[str, list[dict[str, Any]]] = {}
    sizes: dict[str, int] = {}
    for row in rows:
        groups.setdefault(row.key.video_id, []).append(_record(row))
        sizes[row.key.video_id] = sizes.get(row.key.video_id, 0) + sum(map(len, row.frame_jpeg))
    too_large = [video for video, num_bytes in sizes.items() if num_bytes >= _ONE_PAGE]
    if too_large:
        raise ValueError(
            f"video {too_large[0]} gives {sizes[too_large[0]]} bytes of frames, more than a row group holds"
        )
    with pq.ParquetWriter(
        file,
        schema.CLIP_SCHEMA,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        data_page_size=_ONE_PAGE,
        data_page_version="1.0",
        store_schema=True,
    ) as writer:
        for records in groups.values():
            writer.write_table(pa.Table.from_pylist(records, schema.CLIP_SCHEMA), row_group_size=len(records))


def _record(row: ClipRow) -> dict[str, Any]:
    return {
        "identity": row.key.identity,
        "video": row.key.video,
        "clip": row.key.clip,
        "source": row.source,
        "source_sha256": row.source_sha256,
        "fps_numerator": row.fps.numerator,
        "fps_denominator": row.fps.denominator,
        "width": row.width,
        "height": row.height,
        "start_us": row.start_us,
        "end_us": row.end_us,
        "frame_jpeg": list(row.frame_jpeg),
        "landmarks": list(row.landmarks.reshape(len(row.frame_jpeg), -1)),
        "bbox": list(row.bbox),
        "crop_affine": row.crop_affine.reshape(-1),
        **{name: list(getattr(row, name)) for name in _PART_COLUMNS},
        "audio": row.audio,
        "audio_format": row.audio_format,
    }


def index_rows(file: Path, rows: Sequence[ClipRow]) -> list[dict[str, Any]]:
    """Return one index row per frame, with byte offsets that have been read back and compared.

    Parquet's PLAIN encoding writes a byte array as a 4-byte length and the bytes, and a float as four bytes. With one
    uncompressed page per column chunk all values are contiguous at the chunk's end.
    """
    chunks = plain_chunks(pq.read_metadata(file))
    by_video: dict[str, list[ClipRow]] = {}
    for row in rows:
        by_video.setdefault(row.key.video_id, []).append(row)
    result: list[dict[str, Any]] = []
    with file.open("rb") as data:
        for (jpeg_end, landmarks_end), members in zip(chunks, by_video.values(), strict=True):
            num_frames = sum(len(row.frame_jpeg) for row in members)
            at = jpeg_end - sum(4 + len(jpeg) for row in members for jpeg in row.frame_jpeg)
            points_at = landmarks_end - num_frames * schema.LANDMARK_BYTES
            for row in members:
                for i, jpeg in enumerate(row.frame_jpeg):
                    result.append(_index_row(row, i, at + 4, points_at))
                    _check(data, file, at + 4, jpeg)
                    _check(data, file, points_at, np.ascontiguousarray(row.landmarks[i], "<f4").tobytes())
                    at += 4 + len(jpeg)
                    points_at += schema.LANDMARK_BYTES
    return result


def _index_row(row: ClipRow, i: int, jpeg_offset: int, landmarks_offset: int) -> dict[str, Any]:
    return {
        "identity": row.key.identity,
        "video": row.key.video,
        "clip": row.key.clip,
        "jpeg_offset": jpeg_offset,
        "jpeg_length": len(row.frame_jpeg[i]),
        "jpeg_crc32c": crc32c.crc32c(row.frame_jpeg[i]),
        "landmarks_offset": landmarks_offset,
        **{name: getattr(row, name)[i] for name in (*_PART_COLUMNS, *schema.INDEX_MEASURES)},
    }


def _check(data: Any, file: Path, offset: int, expected: bytes) -> None:
    data.seek(offset)
    if data.read(len(expected)) != expected:
        raise OSError(f"{file.name}: {len(expected)} bytes at offset {offset} are not what was written")
