"""The Parquet schemas of a data set, their version, the key of a clip, and the encodings that readers rely on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipelines.faces.head_pose import NUM_LANDMARKS

SCHEMA_VERSION = 2
SPLITS = ("train", "val", "test")
LANDMARK_BYTES = NUM_LANDMARKS * 2 * 4
"""Size of a frame's landmarks in a shard: x and y as float32."""
_LONGEST_NAME = 300

PLAIN_COLUMNS = ("frame_jpeg.list.element", "landmarks.list.element.list.element")
"""Physical columns written PLAIN, uncompressed, without dictionary or statistics, so that a frame is a byte range."""

KEY_COLUMNS = ("identity", "video", "clip")

# The per-frame columns. A clip's row holds those of the part as lists, one value per frame kept; the index has one row
# per frame. Every other module takes the names from here.
FRAME_TIMES = {"frame_index": pa.int32(), "frame_pts_us": pa.int64()}
"""Part and index: the frame's number in its source video, and its time in microseconds."""
FRAME_SCORES = {"landmark_score": pa.float32()}
"""Part and index: the detector's score, 0 to 1."""
FRAME_MEASURES = dict.fromkeys(("yaw", "pitch", "roll", "sharpness", "brightness"), pa.float32())
"""Part and index: head pose in degrees, variance of the Laplacian, mean grey value (0-255)."""
INDEX_MEASURES = dict.fromkeys(("mouth_openness", "eye_openness"), pa.float32())
"""Index only."""
FRAME_RANGES = {
    "jpeg_offset": pa.int64(),
    "jpeg_length": pa.int32(),
    "jpeg_crc32c": pa.uint32(),
    "landmarks_offset": pa.int64(),
}
"""Index only: where the frame's JPEG and landmarks lie in the part, and the JPEG's checksum."""


@dataclass(frozen=True, order=True)
class ClipKey:
    """Identity, source video and clip: three names that are never used as paths."""

    identity: str
    video: str
    clip: str

    def __post_init__(self) -> None:
        for field, value in (("identity", self.identity), ("video", self.video), ("clip", self.clip)):
            if not value or "/" in value or len(value) > _LONGEST_NAME or not value.isprintable():
                raise ValueError(f"{field} must be 1-300 printable characters without '/', got {value!r}")

    @property
    def video_id(self) -> str:
        """identity/video: the name of the embedding row that the clip trains."""
        return f"{self.identity}/{self.video}"

    def __str__(self) -> str:
        return f"{self.identity}/{self.video}/{self.clip}"


def key_name(text: str) -> str:
    """Return `text` as a part of a key: forbidden characters become %XX of their UTF-8 bytes; a long name is cut and
    gets a hash of the whole."""
    safe = text
    if "/" in text or "%" in text or not text.isprintable():
        bad = {c: "".join(f"%{byte:02X}" for byte in c.encode()) for c in text if c in "/%" or not c.isprintable()}
        safe = "".join(bad.get(c, c) for c in text)
    if 0 < len(safe) <= _LONGEST_NAME:
        return safe
    return f"{safe[: _LONGEST_NAME - 20]}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _field(name: str, kind: Any) -> Any:
    return pa.field(name, kind, nullable=False)


def _fields(columns: Mapping[str, Any]) -> list[Any]:
    return [_field(name, kind) for name, kind in columns.items()]


def _list_fields(columns: Mapping[str, Any]) -> list[Any]:
    return [_field(name, pa.list_(kind)) for name, kind in columns.items()]


_KEYS = [_field(name, pa.string()) for name in KEY_COLUMNS]

CLIP_SCHEMA = pa.schema(
    [
        *_KEYS,
        _field("source", pa.string()),  # relative to the corpus if it lies inside it
        _field("source_sha256", pa.string()),
        _field("fps_numerator", pa.int64()),
        _field("fps_denominator", pa.int64()),
        _field("width", pa.int32()),
        _field("height", pa.int32()),
        _field("start_us", pa.int64()),
        _field("end_us", pa.int64()),
        *_list_fields(FRAME_TIMES),
        _field("frame_jpeg", pa.list_(pa.binary())),
        _field("landmarks", pa.list_(pa.list_(pa.float32(), NUM_LANDMARKS * 2))),  # pixels of the crop
        *_list_fields(FRAME_SCORES),
        _field("bbox", pa.list_(pa.list_(pa.float32(), 4))),  # x0 y0 x1 y1, pixels of the source
        _field("crop_affine", pa.list_(pa.float64(), 6)),  # crop -> source, row by row
        *_list_fields(FRAME_MEASURES),
        pa.field("audio", pa.binary()),
        pa.field("audio_format", pa.string()),
    ],
    metadata={"sfumato_schema_version": str(SCHEMA_VERSION)},
)

INDEX_SCHEMA = pa.schema(
    [
        *_KEYS,
        *_fields(FRAME_TIMES),
        *_fields(FRAME_RANGES),
        *_fields(FRAME_SCORES),
        *_fields(FRAME_MEASURES),
        *_fields(INDEX_MEASURES),
    ],
    metadata={"sfumato_schema_version": str(SCHEMA_VERSION)},
)

# plan.parquet: one row group per shard, in the order of the shards' numbers. It holds no machine's paths, unless a
# manifest of clips did.
PLAN_SCHEMA = pa.schema(
    [
        *_KEYS,
        _field("source", pa.string()),  # relative to the corpus, as in the shards
        pa.field("location", pa.string()),  # path or URL to read it from, if that is not `source` below the corpus
        pa.field("offset", pa.int64()),  # of a member inside the tar at `location`
        _field("num_bytes", pa.int64()),
        pa.field("boxes", pa.string()),  # VoxCeleb's file of face boxes, relative to the corpus
        pa.field("duplicate_of", pa.string()),  # the key of the clip with the same content
        _field("attempt", pa.int32()),  # 1, plus 1 for each `retry`
        _field("split", pa.string()),
        _field("shard", pa.int32()),
    ]
)

# The measures are those taken before the clip was rejected: enough to evaluate other thresholds.
REJECT_SCHEMA = pa.schema(
    [
        *_KEYS,
        _field("source", pa.string()),
        _field("stage", pa.string()),
        _field("status", pa.string()),  # "rejected" or "failed"
        _field("code", pa.string()),
        _field("message", pa.string()),
        _field("retryable", pa.bool_()),
        _field("attempts", pa.int32()),
        pa.field("frames_seen", pa.int32()),
        pa.field("frames_with_face", pa.int32()),
        pa.field("face_size", pa.float32()),  # median, pixels of the source
        pa.field("sharpness", pa.float32()),  # median over the crops
        pa.field("thumbnail", pa.binary()),  # JPEG of the middle candidate frame, at most 128 px
    ]
)


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no spaces; equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest_of(value: Any) -> str:
    """Return the hex sha256 of `canonical_json(value)`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def spec_digest(config_sha256: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the digest of a shard's inputs: the config and the shard's rows of plan.parquet, in order.

    `location` is left out: the path of the files on this machine does not affect the shard.
    """
    names = [name for name in PLAN_SCHEMA.names if name != "location"]
    return digest_of([config_sha256, *([row[name] for name in names] for row in rows)])


def plan_digest(spec_digests: Iterable[str]) -> str:
    """Return the digest of the plan: of the shards' `spec_digest`s, in the order of their numbers."""
    return digest_of(list(spec_digests))
