"""The indispensable stages of preprocessing, each alone: without processes, pipes, checks or files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from pipelines.dataset.rows import ClipRow
from pipelines.dataset.schema import ClipKey
from pipelines.faces.crop import crop
from pipelines.faces.face import LandmarkDetector
from pipelines.faces.second_look import detect_in_order
from pipelines.media.decoder.process import ClipInfo, Decoder
from pipelines.media.images import encode_jpeg
from pipelines.media.video import Frame
from pipelines.planning.plan import PlannedClip
from pipelines.preprocess.candidate_frames import prepare_clip
from pipelines.preprocess.clip_to_row import make_row
from pipelines.preprocess.config import ClipConfig
from pipelines.preprocess.quality import ClipRejected
from pipelines.preprocess.stopwatch import Stopwatch

NAMES = ("decode", "landmarks", "crop", "encode")
FIRST_LOOK = "first look"


@dataclass(frozen=True, eq=False)
class MeasuredClip:
    """A clip with the frames that preprocessing samples and keeps, for measuring the stages on the same frames."""

    path: Path
    info: ClipInfo
    frames: Sequence[Frame]
    """The candidate frames."""
    row: ClipRow | None
    """None when the clip is rejected."""

    @property
    def kept(self) -> list[UInt8[np.ndarray, "height width 3"]]:
        """Pixels of the frames kept."""
        wanted = frozenset(self.row.frame_index if self.row is not None else ())
        return [frame.image for frame in self.frames if frame.index in wanted]


def prepare_measured_clip(path: Path, detector: LandmarkDetector, config: ClipConfig) -> MeasuredClip:
    """Preprocess a clip and hold its frames. Raises ClipRejected when it cannot be decoded."""
    watch = Stopwatch()
    clip = PlannedClip(ClipKey(path.stem, "film", "0"), path.name, path.stat().st_size, "train", 0)
    with Decoder() as decoder:
        prepared = prepare_clip(clip, path, None, decoder, config, watch)
        frames = list(prepared.frames)
        (found,) = detector.follow([prepared.candidates])
        row: ClipRow | None = None
        with contextlib.suppress(ClipRejected):
            row = make_row(prepared, found, decoder, config, watch)
    return MeasuredClip(path, prepared.info, frames, row)


def stage_functions(
    clips: Sequence[MeasuredClip], detector: LandmarkDetector, first_look: LandmarkDetector, config: ClipConfig
) -> dict[str, Callable[[], None]]:
    """Return stage name -> function that runs the stage on all clips.

    `FIRST_LOOK` is the stage "landmarks" with the detector `first_look`, which takes no second look.
    """
    crops = [crop for clip in clips for crop in _crops(clip, config)]

    def landmarks() -> None:
        _detect(clips, detector)

    def first() -> None:
        _detect(clips, first_look)

    def crop() -> None:
        for clip in clips:
            _crops(clip, config)

    def encode() -> None:
        for image in crops:
            encode_jpeg(image, config.jpeg_quality)

    def decode() -> None:
        for clip in clips:
            decode_frames(clip.path, [frame.index for frame in clip.frames], clip.info)

    return dict(zip((*NAMES, FIRST_LOOK), (decode, landmarks, crop, encode, first), strict=True))


def _detect(clips: Sequence[MeasuredClip], detector: LandmarkDetector) -> None:
    for clip in clips:
        detect = detect_in_order(detector)
        for frame in clip.frames:
            detect(frame.image)


def decode_frames(path: Path, indices: Sequence[int], info: ClipInfo) -> list[UInt8[np.ndarray, "height width 3"]]:
    """Return the pixels of some frames, decoded by one thread from the video's beginning to the last of them."""
    wanted = frozenset(indices)
    pictures: list[UInt8[np.ndarray, "height width 3"]] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(stream)):
            if number in wanted:
                pictures.append(frame.to_ndarray(format="rgb24", width=info.width, height=info.height))
            if len(pictures) == len(wanted):
                break
    return pictures


def _crops(clip: MeasuredClip, config: ClipConfig) -> list[UInt8[np.ndarray, "size size 3"]]:
    if clip.row is None:
        return []
    return [crop(image, clip.row.crop_affine, config.size) for image in clip.kept]


def mean_frames(clips: Sequence[MeasuredClip]) -> dict[str, float]:
    """Return the mean number of frames per clip: in the file, decoded, sampled, kept. Keys are part of the JSON."""
    counts = {
        "in the film": [clip.info.num_frames for clip in clips],
        "decoded": [clip.frames[-1].index + 1 for clip in clips],
        "looked at": [len(clip.frames) for clip in clips],
        "kept": [len(clip.kept) for clip in clips],
    }
    return {name: sum(numbers) / len(clips) for name, numbers in counts.items()}
