"""One clip -> one row: choose frames, follow the face, crop, measure. Knows neither Beam nor Parquet."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Float64, UInt8

from pipelines import faces, head, quality, sampling, sound, storage, video
from pipelines.landmarks import Face, LandmarkDetector
from pipelines.quality import ClipRejected, QualityRule, RejectReason
from pipelines.schema import ClipKey
from pipelines.timing import Stopwatch

_PROBE_EVERY = 8  # every so many candidates, all faces are counted, not only the followed one
_KEEP_BYTES = 192 * 1024 * 1024  # candidate frames held in memory; a larger clip is decoded twice instead


@dataclass(frozen=True)
class ClipConfig:
    """Everything that decides a row's content. Part of the data set's config hash."""

    detector: str = "mediapipe"
    frames_per_clip: int = 16
    size: int = 256
    oversample: int = 3
    """Candidate frames looked at per frame kept."""
    fps_limit: float = 12.5
    """Candidates per second of film at most: closer ones look alike."""
    jpeg_quality: int = 95
    audio: bool = True
    crop: faces.CropRule = field(default_factory=faces.CropRule)
    quality: QualityRule = field(default_factory=QualityRule)

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 2048:
            raise ValueError(f"size must lie in [16, 2048] pixels, got {self.size}")
        if self.frames_per_clip < self.quality.min_frames:
            raise ValueError(
                f"frames_per_clip ({self.frames_per_clip}) must be at least min_frames ({self.quality.min_frames})"
            )
        if self.oversample < 1 or self.fps_limit <= 0 or not 1 <= self.jpeg_quality <= 100:
            raise ValueError(
                f"oversample ({self.oversample}), fps_limit ({self.fps_limit}) or jpeg_quality ({self.jpeg_quality}) "
                "is out of range"
            )


@dataclass(frozen=True, eq=False)
class ClipRow:
    """One clip as it goes into a shard; per-frame fields have one entry per kept frame, in the clip's order."""

    key: ClipKey
    source: str
    source_sha256: str
    fps: Fraction
    width: int
    height: int
    end_us: int
    """Length of the clip by its number of frames and rate."""
    frame_index: tuple[int, ...]
    frame_pts_us: tuple[int, ...]
    frame_jpeg: tuple[bytes, ...]
    landmarks: Float[np.ndarray, "frames 68 2"]
    landmark_score: tuple[float, ...]
    bbox: Float[np.ndarray, "frames 4"]
    crop_affine: Float64[np.ndarray, "2 3"]
    yaw: tuple[float, ...]
    pitch: tuple[float, ...]
    roll: tuple[float, ...]
    sharpness: tuple[float, ...]
    brightness: tuple[float, ...]
    mouth_openness: tuple[float, ...]
    eye_openness: tuple[float, ...]
    audio: bytes | None
    audio_format: str | None


@dataclass(frozen=True, eq=False)
class _Sighting:
    """The followed face in one candidate frame; `image` is None where the clip is too large to keep its frames."""

    index: int
    pts_us: int
    face: Face
    image: UInt8[np.ndarray, "height width 3"] | None


def process_clip(
    key: ClipKey, url: str, relative: str, detector: LandmarkDetector, config: ClipConfig, watch: Stopwatch
) -> ClipRow:
    """Make the row of one clip.

    Raises:
        ClipRejected: with the reason, for whatever is wrong with the clip.
    """
    try:
        with watch("fetch"), storage.local_copy(url) as path:
            return _process_file(path, key, relative, detector, config, watch)
    except FileNotFoundError as error:
        raise ClipRejected(RejectReason.STORAGE, "fetch", f"{relative} is not there any more") from error


def _process_file(
    path: Path, key: ClipKey, relative: str, detector: LandmarkDetector, config: ClipConfig, watch: Stopwatch
) -> ClipRow:
    with watch("probe"):
        sha256 = _sha256(path)
        try:
            info = dataclasses.replace(video.probe(path), num_frames=video.count_frames(path))
        except ValueError as error:
            # The message names a path of this machine; the row must not.
            raise ClipRejected(RejectReason.UNREADABLE, "probe", str(error).replace(str(path), relative)) from error
    wanted = sampling.candidate_indices(
        info.num_frames,
        info.fps,
        config.frames_per_clip * config.oversample,
        least=config.quality.min_frames,
        fps_limit=config.fps_limit,
    )
    sightings = _sight(path, wanted, info, detector, watch)
    quality.check_faces([sighting.face for sighting in sightings], config.quality)
    points = np.stack([sighting.face.landmarks for sighting in sightings])
    with watch("choose"):
        kept = [sightings[i] for i in sampling.choose_frames(points, config.frames_per_clip)]
        affine = faces.crop_affine(points, config.crop, config.size)
    with watch("crop"):
        crops = [faces.crop(image, affine, config.size) for image in _images(path, kept)]
    return _row(key, relative, sha256, info, kept, crops, affine, _audio(path, config, watch), config, watch)


def _sight(
    path: Path, wanted: Sequence[int], info: video.VideoInfo, detector: LandmarkDetector, watch: Stopwatch
) -> list[_Sighting]:
    """Follow the main face over the candidate frames; frames without it are left out."""
    keep = len(wanted) * info.width * info.height * 3 <= _KEEP_BYTES
    seen: list[tuple[video.Frame, list[Face]]] = []
    crowded = False
    tracker = detector.tracker()
    try:
        for number, frame in enumerate(_timed(video.decode(path, frame_indices=wanted), watch)):
            with watch("detect"):
                found = tracker.follow(frame.image, frame.pts_us)
                if number % _PROBE_EVERY == 0:
                    crowded = crowded or len(detector.detect(frame.image)) > 1
            seen.append((frame if keep else _without_image(frame), found))
    finally:
        tracker.close()
    if crowded:
        # Several people: the tracker may have followed any of them. Look at all faces of all frames.
        everyone = {f.index: detector.detect(f.image) for f in _timed(video.decode(path, frame_indices=wanted), watch)}
        seen = [(frame, everyone.get(frame.index, [])) for frame, _ in seen]
    try:
        track = faces.choose_track([found for _, found in seen])
    except faces.AmbiguousFace as error:
        raise ClipRejected(RejectReason.SEVERAL_FACES, "detect", str(error)) from error
    if track is None:
        return []
    return [
        _Sighting(frame.index, frame.pts_us, face, frame.image if keep else None)
        for (frame, _), face in zip((seen[i] for i in track.frames), track.faces, strict=True)
    ]


def _timed(frames: Iterator[video.Frame], watch: Stopwatch) -> Iterator[video.Frame]:
    while True:
        with watch("decode"):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def _without_image(frame: video.Frame) -> video.Frame:
    return video.Frame(frame.index, frame.pts_us, frame.image[:0])


def _images(path: Path, kept: Sequence[_Sighting]) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    if all(sighting.image is not None for sighting in kept):
        yield from (sighting.image for sighting in kept if sighting.image is not None)
        return
    for frame in video.decode(path, frame_indices=[sighting.index for sighting in kept]):
        yield frame.image


def _row(
    key: ClipKey,
    relative: str,
    sha256: str,
    info: video.VideoInfo,
    kept: Sequence[_Sighting],
    crops: Sequence[UInt8[np.ndarray, "size size 3"]],
    affine: Float64[np.ndarray, "2 3"],
    audio: tuple[bytes, str] | None,
    config: ClipConfig,
    watch: Stopwatch,
) -> ClipRow:
    in_source = np.stack([sighting.face.landmarks for sighting in kept])
    in_crop = faces.to_crop(in_source, affine)
    pose = head.fit_pose(in_source)
    with watch("measure"):
        sharpness = [quality.sharpness(crop, points) for crop, points in zip(crops, in_crop, strict=True)]
        brightness = [quality.brightness(crop, points) for crop, points in zip(crops, in_crop, strict=True)]
        quality.check_sharpness(sharpness, config.quality)
    with watch("encode"):
        jpegs = tuple(encode_jpeg(crop, config.jpeg_quality) for crop in crops)
    return ClipRow(
        key=key,
        source=relative,
        source_sha256=sha256,
        fps=info.fps,
        width=info.width,
        height=info.height,
        end_us=round(info.num_frames * 1_000_000 / info.fps),
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
        sharpness=tuple(sharpness),
        brightness=tuple(brightness),
        mouth_openness=tuple(map(float, head.mouth_openness(in_source))),
        eye_openness=tuple(map(float, head.eye_openness(in_source).mean(axis=-1))),
        audio=audio[0] if audio else None,
        audio_format=audio[1] if audio else None,
    )


def encode_jpeg(image: UInt8[np.ndarray, "height width 3"], jpeg_quality: int) -> bytes:
    """JPEG without chroma subsampling: at face size its blur would reach lips and eyes."""
    settings = [
        cv2.IMWRITE_JPEG_QUALITY,
        jpeg_quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)
    assert done
    return bytes(data)


def decode_jpeg(data: bytes) -> UInt8[np.ndarray, "height width 3"]:
    """RGB pixels of a shard's JPEG. Raises ValueError when it is broken."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"a JPEG of {len(data)} bytes cannot be decoded")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _audio(path: Path, config: ClipConfig, watch: Stopwatch) -> tuple[bytes, str] | None:
    if not config.audio:
        return None
    with watch("audio"):
        return sound.copy_audio(path)
