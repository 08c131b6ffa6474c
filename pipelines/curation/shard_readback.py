"""Read a shard back into the rows it was written from, to write it again without some of them."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float32

from pipelines import storage
from pipelines.dataset import schema
from pipelines.dataset.paths import HIVE, shard_paths
from pipelines.dataset.rows import ClipRow, Measures, Reject
from pipelines.dataset.schema import ClipKey
from pipelines.faces.head_pose import NUM_LANDMARKS
from pipelines.storage.parquet import read_table

_LISTS = (*schema.FRAME_TIMES, "frame_jpeg", *schema.FRAME_SCORES, *schema.FRAME_MEASURES)
_MEASURES = tuple(Measures.__dataclass_fields__)

FrameKey = tuple[str, str, str, int]
"""Identity, video, clip, frame index."""


def read_rows(root: str, split: str, shard: int, layout: str = HIVE) -> list[ClipRow]:
    """Return the rows of a shard, in order; `write_shard` makes the same bytes of them.

    Mouth and eye openness are only in the index and are looked up by key, so the index may have more frames than the
    part, as after an interrupted rewrite.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the part cannot be read, or has a frame that is not in the index.
    """
    paths = shard_paths(split, shard, layout)
    url, openness = storage.join(root, paths.part), _openness(storage.join(root, paths.index))
    try:
        with storage.open(url) as file:
            parquet = pq.ParquetFile(file)
            return [
                row
                for group in range(parquet.metadata.num_row_groups)
                for row in _group_rows(parquet.read_row_group(group), openness)
            ]
    except KeyError as error:
        raise ValueError(f"{url} has a frame that its index does not know: {error}") from error
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise ValueError(f"{url} cannot be read: {error}") from error


def _openness(url: str) -> dict[FrameKey, tuple[float, float]]:
    table = read_table(url, [*schema.KEY_COLUMNS, "frame_index", *schema.INDEX_MEASURES])
    *keys, mouth, eyes = (column.to_pylist() for column in table.columns)
    return dict(zip(zip(*keys, strict=True), zip(mouth, eyes, strict=True), strict=True))


def _group_rows(table: Any, openness: Mapping[FrameKey, tuple[float, float]]) -> list[ClipRow]:
    points = pc.list_flatten(pc.list_flatten(table.column("landmarks"))).to_numpy().astype(np.float32)
    landmarks: Float32[np.ndarray, "frames 68 2"] = points.reshape(-1, NUM_LANDMARKS, 2)
    rows: list[ClipRow] = []
    start = 0
    for record in table.drop_columns(["landmarks"]).to_pylist():
        end = start + len(record["frame_jpeg"])
        rows.append(_row(record, landmarks[start:end], openness))
        start = end
    return rows


def _row(
    record: Mapping[str, Any],
    landmarks: Float32[np.ndarray, "frames 68 2"],
    openness: Mapping[FrameKey, tuple[float, float]],
) -> ClipRow:
    key = ClipKey(record["identity"], record["video"], record["clip"])
    open_at = [openness[key.identity, key.video, key.clip, index] for index in record["frame_index"]]
    return ClipRow(
        key=key,
        source=record["source"],
        source_sha256=record["source_sha256"],
        fps=Fraction(record["fps_numerator"], record["fps_denominator"]),
        width=record["width"],
        height=record["height"],
        start_us=record["start_us"],
        end_us=record["end_us"],
        landmarks=landmarks,
        bbox=np.array(record["bbox"], dtype=np.float32).reshape(-1, 4),
        crop_affine=np.array(record["crop_affine"]).reshape(2, 3),
        mouth_openness=tuple(mouth for mouth, _ in open_at),
        eye_openness=tuple(eyes for _, eyes in open_at),
        audio=record["audio"],
        audio_format=record["audio_format"],
        **{name: tuple(record[name]) for name in _LISTS},
    )


def read_rejects(root: str, shard: int) -> list[Reject]:
    """Return the rejects of a shard, in order; none if it has no such file.

    Raises:
        ValueError: the file cannot be read.
    """
    url = storage.join(root, shard_paths("", shard).rejects)
    if not storage.exists(url):
        return []
    return [
        Reject(
            key=ClipKey(row["identity"], row["video"], row["clip"]),
            measures=Measures(**{name: row[name] for name in _MEASURES}),
            **{name: row[name] for name in ("source", "stage", "status", "code", "message", "retryable", "attempts")},
        )
        for row in read_table(url).to_pylist()
    ]
