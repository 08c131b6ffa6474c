"""Prepare a clip for detection: probe it, choose its candidate frames and decode them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from pipelines.faces.face import Box, Candidates
from pipelines.media import frame_folder, scene_cuts, video
from pipelines.media.decoder.process import ClipInfo, Decoder
from pipelines.media.images import encode_jpeg
from pipelines.planning import clip_annotations, voxceleb_boxes
from pipelines.planning.plan import PlannedClip
from pipelines.planning.voxceleb_boxes import BoxTrack
from pipelines.preprocess import frame_sampling
from pipelines.preprocess.config import ClipConfig
from pipelines.preprocess.quality import ClipRejected, RejectReason
from pipelines.preprocess.stopwatch import Stopwatch
from pipelines.storage.hashing import sha256_of

_KEEP_BYTES = 192 * 1024 * 1024  # of decoded frames held in memory; a larger clip is decoded twice instead
_THUMBNAIL_PX = 128


class CandidateFrames:
    """The candidate frames of a clip: held in memory, or decoded again on each iteration if they are too large."""

    def __init__(
        self,
        clip: PlannedClip,
        path: Path,
        info: ClipInfo,
        indices: Sequence[int],
        decoder: Decoder,
        watch: Stopwatch,
    ) -> None:
        self._clip, self._path, self._indices, self._decoder, self._watch = clip, path, indices, decoder, watch
        self.signatures: dict[int, Float[np.ndarray, "side side 3"]] = {}
        """Frame number -> signature, for the frames decoded so far."""
        self.pts_us: dict[int, int] = {}
        """Frame number -> time in microseconds, for the frames decoded so far."""
        self.thumbnail: bytes | None = None
        """JPEG of the middle frame, once it is decoded."""
        self._held: list[video.Frame] | None = None
        if len(indices) * info.width * info.height * 3 <= _KEEP_BYTES:
            self._held = list(self._decoded())

    def __iter__(self) -> Iterator[video.Frame]:
        return self._decoded() if self._held is None else iter(self._held)

    @property
    def num_held_bytes(self) -> int:
        """Bytes of the frames held in memory."""
        return sum(frame.image.nbytes for frame in self._held or ())

    def images(self, indices: Sequence[int]) -> list[UInt8[np.ndarray, "height width 3"]]:
        """Return the pixels of some of the frames, in ascending order of their numbers."""
        wanted = frozenset(indices)
        if self._held is not None:
            return [frame.image for frame in self._held if frame.index in wanted]
        return [frame.image for frame in self._timed(self._decoder.frames(self._path, sorted(wanted)))]

    def _decoded(self) -> Iterator[video.Frame]:
        for number, frame in enumerate(self._timed(self._decoder.frames(self._path, self._indices))):
            self.signatures[frame.index] = scene_cuts.signature(frame.image)
            self.pts_us[frame.index] = frame.pts_us
            if number == len(self._indices) // 2 or self.thumbnail is None:
                self.thumbnail = _thumbnail(frame.image)
            yield frame

    def _timed(self, frames: Iterator[video.Frame]) -> Iterator[video.Frame]:
        while True:
            with self._watch("decode"), reject_unreadable(self._clip, self._path):
                frame = next(frames, None)
            if frame is None:
                return
            yield frame


@contextlib.contextmanager
def reject_unreadable(clip: PlannedClip, path: Path) -> Iterator[None]:
    """Turn a ValueError about the file into ClipRejected, with the clip's source in place of the local path."""
    try:
        yield
    except ValueError as error:
        message = str(error).replace(str(path), clip.source)
        raise ClipRejected(RejectReason.UNREADABLE, "decode", message) from error


def _thumbnail(image: UInt8[np.ndarray, "height width 3"]) -> bytes:
    scale = min(1.0, _THUMBNAIL_PX / max(image.shape[:2]))
    size = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
    return encode_jpeg(np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), 80)


@dataclass(frozen=True, eq=False)
class PreparedClip:
    """A clip with its candidate frames, ready for detection."""

    clip: PlannedClip
    path: Path
    sha256: str
    info: ClipInfo
    frames: CandidateFrames
    hints: Mapping[int, Box]
    track: BoxTrack | None

    @property
    def candidates(self) -> Candidates:
        """The frames and box hints in the form that detectors take."""
        return Candidates(self.frames, self.hints)


def prepare_clip(
    clip: PlannedClip, path: Path, box_text: str | None, decoder: Decoder, config: ClipConfig, watch: Stopwatch
) -> PreparedClip:
    """Probe a clip at the local `path` and decode its candidate frames.

    Args:
        box_text: contents of VoxCeleb's file of boxes, or an annotation in JSON, if the clip has one.

    Raises:
        ClipRejected: the clip cannot be decoded, or its boxes are malformed.
    """
    track = _parse_boxes(clip, box_text)
    with watch("probe"), reject_unreadable(clip, path):
        sha256 = frame_folder.sha256(path) if path.is_dir() else sha256_of(path)
        info = decoder.describe(path, track.span if track is not None and clip.is_excerpt else None)
        wanted = frame_sampling.candidate_indices(
            info.num_frames,
            info.fps,
            config.frames_per_clip * config.oversample,
            least=config.quality.min_frames,
            fps_limit=config.fps_limit,
        )
        indices = [info.first + i for i in wanted]
        hints: Mapping[int, Box] = {}
        if track is not None:
            # The file of an already cut clip begins at its first box.
            begin = 0.0 if clip.is_excerpt else float(track.span[0])
            times = {index: begin + seconds for index, seconds in decoder.times(path, indices).items()}
            hints = track.boxes_at(times, info.width, info.height)
    return PreparedClip(
        clip, path, sha256, info, CandidateFrames(clip, path, info, indices, decoder, watch), hints, track
    )


def _parse_boxes(clip: PlannedClip, text: str | None) -> BoxTrack | None:
    if text is None:
        return None
    try:
        is_json = text.lstrip().startswith("{")
        return clip_annotations.parse_annotation(text) if is_json else voxceleb_boxes.parse(text)
    except ValueError as error:
        raise ClipRejected(RejectReason.UNREADABLE, "boxes", f"{clip.boxes}: {error}") from error
