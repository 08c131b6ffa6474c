"""A small real data set of drawn faces, written with the project's own shard writer."""

import dataclasses
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import UInt8

from pipelines import storage
from pipelines.dataset import schema
from pipelines.dataset.manifest import DatasetManifest
from pipelines.dataset.reader import ShardDataset
from pipelines.dataset.rows import ClipRow
from pipelines.dataset.schema import ClipKey
from pipelines.dataset.shard_writer import write_shard
from pipelines.media.images import encode_jpeg
from pipelines.preprocess.config import ClipConfig

Image = UInt8[np.ndarray, "height width 3"]
CROP_SIZE = 48  # side of the data set's crops: not the networks' 32, so that scaling is tested along


def drawn_clip(
    video_id: str, number: int, num_frames: int, face: Callable[..., np.ndarray], draw: Callable[..., Image]
) -> ClipRow:
    identity, video = video_id.split("/")
    random = np.random.default_rng(number)
    landmarks = np.stack([face(28, 24 + random.normal(), 25, yaw=random.normal() * 8) for _ in range(num_frames)])
    images = [draw(points, CROP_SIZE, CROP_SIZE, 150 + 20 * number) for points in landmarks]
    return clip_row(
        ClipKey(identity, video, "a"), images, landmarks, range(num_frames), np.array([[1.0, 0, 0], [0, 1, 0]])
    )


def clip_row(
    key: ClipKey, images: Sequence[Image], landmarks: np.ndarray, frames: Sequence[int], affine: np.ndarray
) -> ClipRow:
    num_frames = len(frames)
    numbers = tuple(float(i) for i in range(num_frames))
    return ClipRow(
        key=key,
        source=f"{key.video_id}.mp4",
        source_sha256="0" * 64,
        fps=Fraction(25),
        width=CROP_SIZE,
        height=CROP_SIZE,
        start_us=0,
        end_us=1_000_000,
        frame_index=tuple(frames),
        frame_pts_us=tuple(40_000 * i for i in frames),
        frame_jpeg=tuple(encode_jpeg(image, 95) for image in images),
        landmarks=landmarks,
        landmark_score=numbers,
        bbox=np.zeros((num_frames, 4), np.float32),
        crop_affine=affine,
        yaw=numbers,
        pitch=numbers,
        roll=numbers,
        sharpness=numbers,
        brightness=numbers,
        mouth_openness=numbers,
        eye_openness=numbers,
        audio=None,
        audio_format=None,
    )


def write_dataset(root: str, shards: list[list[ClipRow]]) -> ShardDataset:
    hashes = {"config_sha256": "c" * 64, "spec_sha256": "p" * 64}
    reports = [write_shard(root, "train", shard, rows, (), seconds={}, **hashes) for shard, rows in enumerate(shards)]
    manifest = DatasetManifest(
        schema_version=schema.SCHEMA_VERSION,
        code_version="0",
        config={
            "file_layout": "hive",
            "clip": dataclasses.asdict(ClipConfig(size=CROP_SIZE)),
            "plan": {},
            "weights": {},
        },
        config_sha256="c" * 64,
        plan_sha256="q" * 64,
        source="drawn",
        licence="CC0",
        counts={"done": sum(map(len, shards))},
        codes={},
        shards=tuple(report.entry for report in reports),
        episode_k_max=min(report.min_clip_frames for report in reports) - 1,
        stage_seconds={},
    )
    storage.write_bytes(storage.join(root, "dataset.json"), manifest.to_json().encode())
    return ShardDataset(root)
