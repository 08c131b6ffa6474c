"""One clip -> one row: keep the frames that show most, crop, measure. Knows neither Beam nor Parquet."""

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
from pipelines.media.decoder_process import Decoder
from pipelines.media.images import encode_jpeg
from pipelines.preprocess import frame_sampling, quality
from pipelines.preprocess.candidate_frames import PreparedClip, reject_unreadable
from pipelines.preprocess.config import ClipConfig
from pipelines.preprocess.quality import ClipRejected, RejectReason
from pipelines.preprocess.stopwatch import Stopwatch


@dataclass(frozen=True, eq=False)
class _Sighting:
    """The followed face in one candidate frame."""

    index: int
    pts_us: int
    face: Face


def make_row(
    looked: PreparedClip, found: Sequence[Sequence[Face]], decoder: Decoder, config: ClipConfig, watch: Stopwatch
) -> ClipRow:
    """Make the row of a clip from the faces of its candidate frames, one list a frame.

    Raises:
        ClipRejected: with the reason, for whatever is wrong with the clip.
    """
    measures = Measures(
        frames_seen=len(found), frames_with_face=sum(map(bool, found)), thumbnail=looked.frames.thumbnail
    )
    try:
        sightings = _follow(looked, found, config)
        measures = _measured(measures, sightings)
        quality.check_faces([sighting.face for sighting in sightings], config.quality)
        points = np.stack([sighting.face.landmarks for sighting in sightings])
        with watch("choose"):
            kept = [sightings[i] for i in frame_sampling.choose_frames(points, config.frames_per_clip)]
            affine = crop_affine(points, config.crop, config.size)
        images = looked.frames.images([sighting.index for sighting in kept])
        with watch("crop"):
            crops = [crop(image, affine, config.size) for image in images]
        with watch("measure"):
            in_crop = to_crop(np.stack([sighting.face.landmarks for sighting in kept]), affine)
            sharpness = [quality.sharpness(crop, points) for crop, points in zip(crops, in_crop, strict=True)]
            measures = dataclasses.replace(measures, sharpness=float(np.median(sharpness)))
            quality.check_sharpness(sharpness, config.quality)
    except ClipRejected as rejected:
        raise ClipRejected(rejected.reason, rejected.stage, str(rejected), measures) from None
    audio = None
    if config.audio:
        with watch("audio"), reject_unreadable(looked.clip, looked.path):
            span = looked.track.span if looked.track is not None and looked.clip.is_excerpt else None
            audio = decoder.audio(looked.path, span)
    return _row(looked, kept, crops, affine, tuple(sharpness), audio, config, watch)


def _measured(measures: Measures, sightings: Sequence[_Sighting]) -> Measures:
    if not sightings:
        return measures
    size = float(np.median([face_size(sighting.face) for sighting in sightings]))
    return dataclasses.replace(measures, frames_with_face=len(sightings), face_size=size)


def _follow(looked: PreparedClip, found: Sequence[Sequence[Face]], config: ClipConfig) -> list[_Sighting]:
    """The main face of the scene where it is seen most; frames without it are left out."""
    signatures = looked.frames.signatures
    places = sorted(signatures)
    assert len(places) == len(found)
    best: tracking.Track | None = None
    ambiguous: tracking.AmbiguousFace | None = None
    together = 0
    for scene in scene_cuts.find_scenes([signatures[index] for index in places]):
        try:
            track = tracking.choose_track([found[i] for i in scene])
        except tracking.AmbiguousFace as error:
            ambiguous = error
            continue
        if track is None:
            continue
        together += len(track.frames)
        if best is None or track.extent > best.extent:
            best = tracking.Track(tuple(scene[i] for i in track.frames), track.faces)
    if best is None:
        if ambiguous is not None:
            raise ClipRejected(RejectReason.SEVERAL_FACES, "detect", str(ambiguous)) from ambiguous
        return []
    least = config.quality.min_frames
    if len(best.frames) < least <= together:
        raise ClipRejected(
            RejectReason.CUT_INSIDE,
            "detect",
            f"cuts leave the face in {len(best.frames)} frames of one scene, {least} are needed",
        )
    return [
        _Sighting(places[i], looked.frames.pts_us[places[i]], face)
        for i, face in zip(best.frames, best.faces, strict=True)
    ]


def _row(
    looked: PreparedClip,
    kept: Sequence[_Sighting],
    crops: Sequence[UInt8[np.ndarray, "size size 3"]],
    affine: Float64[np.ndarray, "2 3"],
    sharpness: tuple[float, ...],
    audio: tuple[bytes, str] | None,
    config: ClipConfig,
    watch: Stopwatch,
) -> ClipRow:
    in_source = np.stack([sighting.face.landmarks for sighting in kept])
    in_crop = to_crop(in_source, affine)
    pose = head_pose.fit_pose(in_source)
    info = looked.info
    with watch("encode"):
        jpegs = tuple(encode_jpeg(crop, config.jpeg_quality) for crop in crops)
    return ClipRow(
        key=looked.clip.key,
        source=looked.clip.source,
        source_sha256=looked.sha256,
        fps=info.fps,
        width=info.width,
        height=info.height,
        start_us=info.start_us,
        end_us=info.start_us + round(info.num_frames * 1_000_000 / info.fps),
        frame_index=tuple(sighting.index for sighting in kept),
        frame_pts_us=tuple(sighting.pts_us for sighting in kept),
        frame_jpeg=jpegs,
        landmarks=in_crop,
        landmark_score=tuple(sighting.face.score for sighting in kept),
        bbox=np.array([sighting.face.box for sighting in kept], dtype=np.float32),
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
