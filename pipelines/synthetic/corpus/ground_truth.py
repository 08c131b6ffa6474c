"""Ground truth of a synthetic clip, per frame: the 68 landmarks, head pose and ARKit action weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32

from pipelines import storage
from pipelines.faces.head_pose import NUM_LANDMARKS
from pipelines.storage.parquet import read_table
from pipelines.synthetic.head.arkit_actions import ACTIONS

TRUTH_VERSION = "2"


def _field(name: str, kind: pa.DataType, unit: str) -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata={"unit": unit})


def _degrees(name: str, meaning: str) -> pa.Field:
    return _field(name, pa.float32(), f"degrees; positive {meaning}")


TRUTH_SCHEMA = pa.schema(
    [
        _field("frame", pa.int32(), "number in the clip, from 0"),
        _field(
            "points",
            pa.list_(pa.float32(), 2 * NUM_LANDMARKS),
            "pixels; x and y of the 68 iBUG points in turn, pixel centres at integers",
        ),
        _degrees("yaw", "turns the face to the picture's right"),
        _degrees("pitch", "looks up"),
        _degrees("roll", "tilts clockwise in the picture"),
        _field(
            "travel",
            pa.list_(pa.float32(), 3),
            "of the head's middle: right and down in widths of the head, nearer in natural logarithms of its size",
        ),
        _field("blendshapes", pa.list_(pa.float32(), len(ACTIONS)), "0 to 1; named in the file's metadata"),
    ],
    metadata={"sfumato_truth_version": TRUTH_VERSION, "actions": json.dumps(ACTIONS)},
)
# Float columns that change little from frame to frame: byte stream split saves a third after zstd.
_BYTE_STREAM_SPLIT = ["yaw", "pitch", "roll", *(f"{name}.list.element" for name in ("points", "travel", "blendshapes"))]


@dataclass(frozen=True, eq=False)
class Truth:
    """Ground truth of a clip's frames; units as in TRUTH_SCHEMA."""

    points: Float32[np.ndarray, "frames 68 2"]
    angles: Float32[np.ndarray, "frames 3"]
    """Yaw, pitch, roll."""
    travel: Float32[np.ndarray, "frames 3"]
    actions: Float32[np.ndarray, "frames 52"]
    """Columns as ACTIONS."""


def truth_url(clip_url: str) -> str:
    """Return the path or URL of a clip's ground truth."""
    return f"{clip_url.removesuffix('.mp4')}.parquet"


def read_truth(clip_url: str) -> Truth:
    """Read the ground truth of the clip at `clip_url`.

    Raises:
        FileNotFoundError: the clip is not synthetic, or not complete.
        ValueError: the file beside the clip is broken or something else.
    """
    url = truth_url(clip_url)
    table = read_table(url)
    if not table.schema.equals(TRUTH_SCHEMA) or _version(table.schema.metadata) != TRUTH_VERSION:
        raise ValueError(f"{url} is not the truth of a synthetic clip, or that of another version")
    points, travel, actions = (_rows(table, name) for name in ("points", "travel", "blendshapes"))
    angles = np.stack([table[name].to_numpy() for name in ("yaw", "pitch", "roll")], axis=-1)
    return Truth(points.reshape(-1, NUM_LANDMARKS, 2), angles, travel, actions)


def write_truth(clip_url: str, truth: Truth, about: Mapping[str, str]) -> None:
    """Write the ground truth beside its clip atomically, which marks the clip as complete. `about` is added to the
    file's metadata."""
    table = pa.table(
        [
            pa.array(np.arange(len(truth.points), dtype=np.int32)),
            _lists(truth.points.reshape(len(truth.points), -1)),
            *(pa.array(column) for column in truth.angles.T),
            _lists(truth.travel),
            _lists(truth.actions),
        ],
        schema=TRUTH_SCHEMA.with_metadata({**TRUTH_SCHEMA.metadata, **about}),
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=False, use_byte_stream_split=_BYTE_STREAM_SPLIT)
    storage.write_bytes(truth_url(clip_url), sink.getvalue().to_pybytes())


def _lists(values: Float32[np.ndarray, "frames numbers"]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1])


def _rows(table: pa.Table, name: str) -> Float32[np.ndarray, "frames numbers"]:
    column = table[name].combine_chunks()
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(len(table), -1)


def _version(metadata: Mapping[bytes, bytes] | None) -> str:
    return (metadata or {}).get(b"sfumato_truth_version", b"").decode()
