"""Small videos, faces and data sets that the tests make themselves, without the code under test."""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jaxtyping import Float, UInt8

from pipelines import storage
from pipelines.dataset import schema
from pipelines.dataset.manifest import DatasetManifest
from pipelines.dataset.paths import HIVE
from pipelines.dataset.rows import ClipRow, Measures, Reject
from pipelines.dataset.schema import ClipKey
from pipelines.dataset.shard_writer import write_shard
from pipelines.faces.face import Candidates, Face, make_face
from pipelines.faces.head_pose import CANONICAL_LANDMARKS
from pipelines.media.decoder.process import Decoder
from pipelines.media.images import encode_jpeg
from pipelines.preprocess.config import ClipConfig

MakeVideo = Callable[..., Path]


@pytest.fixture
def numbered_frame() -> Callable[..., UInt8[np.ndarray, "height width 3"]]:
    """Makes a grey frame whose brightness says its number (steps of 8 survive H.264)."""

    def make(number: int, width: int = 64, height: int = 48) -> UInt8[np.ndarray, "height width 3"]:
        return np.full((height, width, 3), 16 + 8 * number, np.uint8)

    return make


@pytest.fixture
def frame_number() -> Callable[[UInt8[np.ndarray, "height width 3"]], int]:
    """Reads the number that `numbered_frame` wrote."""
    return lambda image: round((float(image.mean()) - 16) / 8)


@pytest.fixture
def face_points() -> Callable[..., Float[np.ndarray, "68 2"]]:
    """Makes a face seen straight on; `size` is the larger side of its landmarks' box, centred at (x, y)."""

    def make(size: float = 100.0, x: float = 128.0, y: float = 128.0) -> Float[np.ndarray, "68 2"]:
        flat = CANONICAL_LANDMARKS[:, :2]
        low, high = flat.min(axis=0), flat.max(axis=0)
        return ((flat - (low + high) / 2) * (size / (high - low).max()) + [x, y]).astype(np.float32)

    return make


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """`make_video(name, frames, fps=..., audio_codec=..., audio_seconds=...)` -> path; written by PyAV."""

    def make(
        name: str,
        frames: Sequence[UInt8[np.ndarray, "height width 3"]],
        *,
        fps: Fraction = Fraction(25),
        audio_codec: str | None = None,
        audio_seconds: float = 1.0,
        codec: str = "libx264",
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as out:
            video = out.add_stream(codec, rate=fps)
            video.height, video.width = frames[0].shape[:2]
            video.pix_fmt = "yuv420p"
            audio = out.add_stream(audio_codec, rate=48000) if audio_codec else None
            for image in frames:
                out.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            out.mux(video.encode())
            if audio is not None:
                _write_tone(out, audio, audio_seconds)
        return path

    return make


def _write_tone(out: "av.container.OutputContainer", stream: "av.AudioStream", seconds: float) -> None:
    samples = np.sin(np.arange(int(seconds * 48000)) * 2 * np.pi * 440 / 48000) * 0.3
    fifo = av.AudioFifo()
    frame = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], format="flt", layout="mono")
    frame.rate = 48000
    frame.pts = 0
    resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=48000)
    size = stream.codec_context.frame_size or 1024
    for piece in resampler.resample(frame):
        fifo.write(piece)
    while (piece := fifo.read(size)) is not None:
        out.mux(stream.encode(piece))
    out.mux(stream.encode())


@pytest.fixture
def make_row() -> Callable[..., ClipRow]:
    """`make_row("ann", "v1", "a", num_frames=9)` -> a row of 32-pixel noise whose per-frame numbers count up."""

    def make(identity: str, video: str, clip: str, num_frames: int = 9) -> ClipRow:
        rng = np.random.default_rng([num_frames, *map(ord, identity + video + clip)])
        numbers = tuple(float(i) for i in range(num_frames))
        images = rng.integers(0, 255, (num_frames, 32, 32, 3), dtype=np.uint8)
        return ClipRow(
            key=ClipKey(identity, video, clip),
            source=f"{identity}/{video}/{clip}.mp4",
            source_sha256="0" * 64,
            fps=Fraction(25),
            width=640,
            height=360,
            start_us=0,
            end_us=4_000_000,
            frame_index=tuple(range(5, 5 + num_frames)),
            frame_pts_us=tuple(i * 40_000 for i in range(num_frames)),
            frame_jpeg=tuple(encode_jpeg(image, 90) for image in images),
            landmarks=rng.uniform(0, 31, (num_frames, 68, 2)).astype(np.float32),
            landmark_score=numbers,
            bbox=rng.uniform(0, 99, (num_frames, 4)).astype(np.float32),
            crop_affine=np.array([[2.0, 0, 3], [0, 2, 4]]),
            yaw=tuple(-10 + 2.5 * number for number in numbers),
            pitch=numbers,
            roll=numbers,
            sharpness=numbers,
            brightness=numbers,
            mouth_openness=tuple(number / 7 for number in numbers),
            eye_openness=tuple(number / 9 for number in numbers),
            audio=b"sound" if clip == "a" else None,
            audio_format="m4a" if clip == "a" else None,
        )

    return make


@pytest.fixture
def make_reject() -> Callable[..., Reject]:
    """`make_reject("ann", "v9", "a", "too_small", face_size=20.0)` -> a reject with these measures."""

    def make(identity: str, video: str, clip: str, code: str, **measures: Any) -> Reject:
        retryable = code in ("storage", "internal")
        status = "failed" if retryable else "rejected"
        key = ClipKey(identity, video, clip)
        return Reject(
            key, f"{key}.mp4", "detect", status, code, f"because of {code}", retryable, measures=Measures(**measures)
        )

    return make


@dataclass(frozen=True)
class SmallShard:
    """What one shard of a small data set holds. `attempts` > 1 are of clips that an earlier shard failed."""

    rows: Sequence[ClipRow] = ()
    rejects: Sequence[Reject] = ()
    split: str = "train"
    attempts: Mapping[ClipKey, int] = field(default_factory=dict)
    duplicates: Mapping[ClipKey, str] = field(default_factory=dict)


@pytest.fixture
def small_shard() -> type[SmallShard]:
    """The class, which tests cannot import."""
    return SmallShard


@pytest.fixture
def make_dataset() -> Callable[..., DatasetManifest]:
    """`make_dataset(root, [small_shard(...), ...])` writes a data set, plan and manifest counted by hand here."""
    return _make_dataset


def _make_dataset(root: str, shards: Sequence[SmallShard], licence: str = "CC0", layout: str = HIVE) -> DatasetManifest:
    settings: dict[str, Any] = {"clip": asdict(ClipConfig(size=32)), "plan": {}, "weights": {"net": "a" * 64}}
    if layout == HIVE:
        settings["file_layout"] = layout
    config = json.loads(schema.canonical_json(settings))
    config_sha256 = schema.digest_of(config)
    buffer = io.BytesIO()
    kind = schema.PLAN_SCHEMA.with_metadata(
        {"sfumato_config": schema.canonical_json(config), "sfumato_corpus": "/films"}
    )
    specs, reports = [], []
    with pq.ParquetWriter(buffer, kind, compression="zstd") as writer:
        for number, shard in enumerate(shards):
            planned = [_planned(shard, number, item.key, item.source) for item in (*shard.rows, *shard.rejects)]
            specs.append(schema.spec_digest(config_sha256, planned))
            writer.write_table(pa.Table.from_pylist(planned, kind))
            hashes = {"config_sha256": config_sha256, "spec_sha256": specs[-1]}
            report = write_shard(
                root,
                shard.split,
                number,
                shard.rows,
                shard.rejects,
                num_retried=len(shard.attempts),
                seconds={"decode": 1.5},
                layout=layout,
                **hashes,
            )
            reports.append(report)
    storage.write_bytes(storage.join(root, "plan.parquet"), buffer.getvalue())
    again = {key for shard in shards for key in shard.attempts}
    outcomes: dict[ClipKey, str] = {}
    for shard in shards:
        outcomes |= {row.key: "" for row in shard.rows}
        outcomes |= {reject.key: reject.code for reject in shard.rejects}
    assert again <= set(outcomes)
    failed = sum(code in ("storage", "internal") for code in outcomes.values())
    done = sum(not code for code in outcomes.values())
    manifest = DatasetManifest(
        schema_version=schema.SCHEMA_VERSION,
        code_version="0",
        config=config,
        config_sha256=config_sha256,
        plan_sha256=schema.digest_of(specs),
        source="films",
        licence=licence,
        counts={
            "inputs": len(outcomes),
            "done": done,
            "rejected": len(outcomes) - done - failed,
            "failed": failed,
            "frames": sum(report.num_frames for report in reports),
            "identities": len({key.identity for key in outcomes}),
        },
        codes=dict(sorted(Counter(code for code in outcomes.values() if code).items())),
        shards=tuple(report.entry for report in reports),
        episode_k_max=max(0, min((len(row.frame_jpeg) for s in shards for row in s.rows), default=0) - 1),
        stage_seconds={"decode": 1.5 * len(shards)},
    )
    storage.write_bytes(storage.join(root, "README.md"), b"# A data set\n")
    storage.write_bytes(storage.join(root, "dataset.json"), manifest.to_json().encode())
    return manifest


def _planned(shard: SmallShard, number: int, key: ClipKey, source: str) -> dict[str, Any]:
    return {
        **asdict(key),
        "source": source,
        "location": None,
        "offset": None,
        "num_bytes": 1000,
        "boxes": None,
        "duplicate_of": shard.duplicates.get(key),
        "attempt": shard.attempts.get(key, 1),
        "split": shard.split,
        "shard": number,
    }


class MarkedFaces:
    """Finds a face of `size` px in frames brighter than 40, `others` more beside it. Needs no weights."""

    name = "marked"

    def __init__(self, points: Float[np.ndarray, "68 2"], others: int, clips_at_once: int) -> None:
        self._points, self._others, self.clips_at_once = points, others, clips_at_once
        self.seen: list[Candidates] = []

    def detect(self, image: UInt8[np.ndarray, "height width 3"]) -> list[Face]:
        if image.mean() < 40:
            return []
        return [make_face(self._points + np.float32([70 * i, 0]), 0.9) for i in range(1 + self._others)]

    def follow(self, clips: Sequence[Candidates]) -> list[list[list[Face]]]:
        self.seen += clips
        return [[self.detect(frame.image) for frame in clip.frames] for clip in clips]


@pytest.fixture
def marked_faces(face_points: Callable[..., Float[np.ndarray, "68 2"]]) -> Callable[..., MarkedFaces]:
    """`marked_faces(size=60, x=80, y=60, others=0, clips_at_once=1)` -> a detector that finds faces there."""

    def make(
        size: float = 60.0, x: float = 80.0, y: float = 60.0, others: int = 0, clips_at_once: int = 1
    ) -> MarkedFaces:
        return MarkedFaces(face_points(size=size, x=x, y=y), others, clips_at_once)

    return make


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    """A decoder with its child process, shared by the tests of a file."""
    with Decoder() as decoder:
        yield decoder
