"""Turn a clip and its detections into a row: follow the main face, choose frames, crop and measure them.

Independent of Beam and Parquet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8

from pipelines.dataset.rows import ClipRow, Measures
from pipelines.faces import head_pose, tracking
from pipelines.faces.crop import crop, crop_affine, to_crop
from pipelines.faces.face import Face, face_size
from pipelines.media import scene_cuts
from pipelines.media.decoder.process import Decoder
from pipelines.media.images import encode_jpeg
from pipelines.preprocess import frame_sampling, quality
from pipelines.preprocess.candidate_frames import PreparedClip, reject_unreadable
from pipelines.preprocess.config import ClipConfig
from pipelines.preprocess.quality import ClipRejected, RejectReason
from pipelines.preprocess.stopwatch import Stopwatch


@dataclass(frozen=True, eq=False)
class _TrackedFace:
    """The main face in one candidate frame."""

    index: int
    pts_us: int
    face: Face


def make_row(
    prepared: PreparedClip, found: Sequence[Sequence[Face]], decoder: Decoder, config: ClipConfig, watch: Stopwatch
) -> ClipRow:
    """Return the row of a clip.

    Args:
        found: per candidate frame, the detected faces.

    Raises:
        ClipRejected: the clip fails a quality check or cannot be decoded; it holds what was measured so far.
    """
    measures = Measures(
        frames_seen=len(found), frames_with_face=sum(map(bool, found)), thumbnail=prepared.frames.thumbnail
    )
    try:
        tracked = _follow_main_face(prepared, found, config)
        measures = _with_face_measures(measures, tracked)
        quality.check_faces([frame.face for frame in tracked], config.quality)
        points = np.stack([frame.face.landmarks for frame in tracked])
        with watch("choose"):
            kept = [tracked[i] for i in frame_sampling.choose_frames(points, config.frames_per_clip)]
            affine = crop_affine(points, config.crop, config.size)
        images = prepared.frames.images([frame.index for frame in kept])
        with watch("crop"):
            crops = [crop(image, affine, config.size) for image in images]
        with watch("measure"):
            in_crop = to_crop(np.stack([frame.face.landmarks for frame in kept]), affine)
            sharpness = [quality.sharpness(crop, points) for crop, points in zip(crops, in_crop, strict=True)]
            measures = dataclasses.replace(measures, sharpness=float(np.median(sharpness)))
            quality.check_sharpness(sharpness, config.quality)
    except ClipRejected as rejected:
        raise ClipRejected(rejected.reason, rejected.stage, str(rejected), measures) from None
    audio = None
    if config.audio:
        with watch("audio"), reject_unreadable(prepared.clip, prepared.path):
            span = prepared.track.span if prepared.track is not None and prepared.clip.is_excerpt else None
            audio = decoder.audio(prepared.path, span)
    return _row(prepared, kept, crops, affine, tuple(sharpness), audio, config, watch)


def _with_face_measures(measures: Measures, tracked: Sequence[_TrackedFace]) -> Measures:
    if not tracked:
        return measures
    size = float(np.median([face_size(frame.face) for frame in tracked]))
    return dataclasses.replace(measures, frames_with_face=len(tracked), face_size=size)


def _follow_main_face(
    prepared: PreparedClip, found: Sequence[Sequence[Face]], config: ClipConfig
) -> list[_TrackedFace]:
    """Return the main face of the scene with the largest track; frames without it are left out."""
    signatures = prepared.frames.signatures
    indices = sorted(signatures)
    assert len(indices) == len(found)
    best: tracking.Track | None = None
    ambiguous: tracking.AmbiguousFace | None = None
    num_all_scenes = 0
    for scene in scene_cuts.find_scenes([signatures[index] for index in indices]):
        try:
            track = tracking.choose_track([found[i] for i in scene])
        except tracking.AmbiguousFace as error:
            ambiguous = error
            continue
        if track is None:
            continue
        num_all_scenes += len(track.frames)
        if best is None or track.extent > best.extent:
            best = tracking.Track(tuple(scene[i] for i in track.frames), track.faces)
    if best is None:
        if ambiguous is not None:
            raise ClipRejected(RejectReason.SEVERAL_FACES, "detect", str(ambiguous)) from ambiguous
        return []
    min_frames = config.quality.min_frames
    if len(best.frames) < min_frames <= num_all_scenes:
        raise ClipRejected(
            RejectReason.CUT_INSIDE,
            "detect",
            f"cuts leave the face in {len(best.frames)} frames of one scene, {min_frames} are needed",
        )
    return [
        _TrackedFace(indices[i], prepared.frames.pts_us[indices[i]], face)
        for i, face in zip(best.frames, best.faces, strict=True)
    ]


def _row(
    prepared: PreparedClip,
    kept: Sequence[_TrackedFace],
    crops: Sequence[UInt8[np.ndarray, "size size 3"]],
    affine: Float64[np.ndarray, "2 3"],
    sharpness: tuple[float, ...],
    audio: tuple[bytes, str] | None,
    config: ClipConfig,
    watch: Stopwatch,
) -> ClipRow:
    in_source = np.stack([frame.face.landmarks for frame in kept])
    in_crop = to_crop(in_source, affine)
    pose = head_pose.fit_pose(in_source)
    info = prepared.info
    with watch("encode"):
        jpegs = tuple(encode_jpeg(crop, config.jpeg_quality) for crop in crops)
    return ClipRow(
        key=prepared.clip.key,
        source=prepared.clip.source,
        source_sha256=prepared.sha256,
        fps=info.fps,
        width=info.width,
        height=info.height,
        start_us=info.start_us,
        end_us=info.start_us + round(info.num_frames * 1_000_000 / info.fps),
        frame_index=tuple(frame.index for frame in kept),
        frame_pts_us=tuple(frame.pts_us for frame in kept),
        frame_jpeg=jpegs,
        landmarks=in_crop,
        landmark_score=tuple(frame.face.score for frame in kept),
        bbox=np.array([frame.face.box for frame in kept], dtype=np.float32),
        crop_affine=affine,
        yaw=tuple(map(float, pose.yaw)),
        pitch=tuple(map(float, pose.pitch)),
        roll=tuple(map(float, pose.roll)),
        sharpness=sharpness,
        brightness=tuple(quality.brightness(crop, points) for crop, points in zip(crops, in_crop, strict=True)),
        mouth_openness=tuple(map(float, head_pose.mouth_openness(in_source))),
        eye_openness=tuple(map(float, head_pose.eye_openness(in_source).mean(axis=-1))),
        audio=audio[0] if audio else None,
        audio_format=audio[1] if audio else None,
    )
