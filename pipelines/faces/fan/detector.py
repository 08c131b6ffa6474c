"""The face-alignment detector over many clips at once: face boxes on some frames, FAN landmarks on all, in batches."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8

from pipelines.assets.weights import locate
from pipelines.faces.boxes import hint_at, hints_failed, interpolate_boxes, mostly_inside
from pipelines.faces.face import Box, Candidates, Face, largest_first
from pipelines.faces.face_detectors import FaceDetector, create_face_detector
from pipelines.faces.fan.network import CROPS_AT_ONCE, HINT_SCALE, Fan, View, cut, fits, load_fan, view_of
from pipelines.faces.requirements import require_package
from pipelines.media import video

_T = TypeVar("_T")

MIN_SCORE = 0.3  # mean of the heat maps' peaks below which a face is detected again
_BOX_EVERY = 4  # boxes are detected on every so many frames
_BOX_EVERY_US = 500_000  # and at least this often; they are interpolated in between

ViewsOf = Callable[[int, video.Frame], Sequence[View]]
"""Returns FAN's input views of a frame, given its position among the clip's candidates and the frame."""


@dataclass(frozen=True, eq=False)
class _Fitted:
    """A face, and the view that FAN found it in."""

    face: Face
    view: View

    @property
    def good(self) -> bool:
        """Whether FAN is sure of the face and the view was well placed."""
        return self.face.score >= MIN_SCORE and fits(self.face, self.view)


class FaceAlignmentDetector:
    """FAN landmarks on boxes of YuNet, S3FD or BlazeFace, in batches over frames and clips.

    Up to three passes over a clip's frames: boxes on every fourth, FAN on all, and both again on frames where FAN is
    unsure or its landmarks do not fit the box. Hints replace the first pass. A frame without a box is looked at again,
    more closely, for faces down to `min_face` pixels.

    Raises ValueError for a device other than cpu and cuda, and on first use if that device or the weights are missing.
    """

    name = "face-alignment"

    def __init__(
        self,
        device: str = "cpu",
        max_faces: int = 5,
        boxes: str = "yunet",
        weights: str | None = None,
        min_face: float | None = None,
    ) -> None:
        if device.partition(":")[0] not in CROPS_AT_ONCE:
            raise ValueError(f"face-alignment runs on cpu or cuda, got the device {device!r}")
        self.clips_at_once = 16 if device.startswith("cuda") else 1
        self._device = device
        self._max_faces = max_faces
        self._boxes = boxes
        self._weights = weights
        self._min_face = min_face
        self._networks: tuple[FaceDetector, Fan] | None = None

    def _load(self) -> tuple[FaceDetector, Fan]:
        if self._networks is None:
            require_package(self.name)
            import torch

            if self._device.startswith("cuda") and not torch.cuda.is_available():
                raise ValueError("face-alignment was asked to run on cuda, and there is no CUDA device here")
            fan = load_fan(locate("fan_2d", self._weights), self._device)
            face_detector = create_face_detector(
                self._boxes,
                device=self._device,
                max_faces=self._max_faces,
                weights=self._weights,
                min_face=self._min_face,
            )
            self._networks = face_detector, fan
        return self._networks

    def detect(self, image: UInt8[np.ndarray, "height width 3"]) -> list[Face]:
        """Return all faces of an image, largest first."""
        face_detector, fan = self._load()
        views = [view_of(box, face_detector.reference_scale) for box in face_detector.find([image])[0]]
        return largest_first(fan.faces([cut(image, view) for view in views], views))

    def follow(self, clips: Sequence[Candidates]) -> list[list[list[Face]]]:
        """Return per clip and frame the faces, largest first; with hints, the hinted face.

        A frame whose hint shows no face gets all its faces.
        """
        hinted = [number for number, clip in enumerate(clips) if clip.hints]
        by_hints = zip(hinted, self._follow_hints([clips[n] for n in hinted]), strict=True)
        found = {number: frames for number, frames in by_hints if frames is not None}
        others = [number for number in range(len(clips)) if number not in found]
        found.update(zip(others, self._follow_boxes([clips[n] for n in others]), strict=True))
        return [
            [largest_first(fitted.face for fitted in frame) for frame in found[number]] for number in range(len(clips))
        ]

    def _follow_hints(self, clips: Sequence[Candidates]) -> list[list[list[_Fitted]] | None]:
        """Return per clip FAN's faces at the hints; None where the hints failed."""
        found = self._fit(clips, [_hint_views(clip) for clip in clips])
        usable = [not hints_failed([_all_good(frame) for frame in frames]) for frames in found]
        doubtful = [
            {position for position, frame in enumerate(frames) if not _all_good(frame)} if good else set()
            for frames, good in zip(found, usable, strict=True)
        ]
        self._detect_again(clips, found, doubtful)
        return [frames if good else None for frames, good in zip(found, usable, strict=True)]

    def _follow_boxes(self, clips: Sequence[Candidates]) -> list[list[list[_Fitted]]]:
        """Return per clip and frame FAN's faces in detected and interpolated boxes."""
        face_detector, _ = self._load()
        times: list[list[int]] = [[] for _ in clips]
        detected: list[dict[int, list[Box]]] = [{} for _ in clips]
        pictures = (
            (number, position, frame)
            for number, clip in enumerate(clips)
            for position, frame in _sample_frames(clip.frames, times[number])
        )
        for number, position, boxes in self._find(pictures):
            detected[number][position] = boxes
        scale = face_detector.reference_scale
        found = self._fit(clips, [_interpolated_views(*plan, scale) for plan in zip(detected, times, strict=True)])
        doubtful = [
            {
                position
                for position, frame in enumerate(frames)
                if position not in sampled and not all(f.good for f in frame)
            }
            for frames, sampled in zip(found, detected, strict=True)
        ]
        self._detect_again(clips, found, doubtful)
        return found

    def _detect_again(
        self, clips: Sequence[Candidates], found: list[list[list[_Fitted]]], doubtful: Sequence[set[int]]
    ) -> None:
        """Detect boxes on the doubtful frames themselves, and replace their faces in `found`."""
        face_detector, _ = self._load()
        again = [number for number, positions in enumerate(doubtful) if positions]
        pictures = (
            (number, position, frame)
            for number in again
            for position, frame in enumerate(clips[number].frames)
            if position in doubtful[number]
        )
        views: dict[int, dict[int, list[View]]] = {number: {} for number in again}
        for number, position, boxes in self._find(pictures):
            views[number][position] = [view_of(box, face_detector.reference_scale) for box in boxes]
        refitted = self._fit([clips[n] for n in again], [_views_at(views[n]) for n in again])
        for number, frames in zip(again, refitted, strict=True):
            for position in doubtful[number]:
                found[number][position] = frames[position]

    def _find(self, pictures: Iterable[tuple[int, int, video.Frame]]) -> Iterator[tuple[int, int, list[Box]]]:
        """Detect boxes in frames of several clips, in batches; yield (clip, position, boxes)."""
        face_detector, _ = self._load()
        for batch in _batches(pictures, face_detector.pictures_at_once):
            found = face_detector.find([frame.image for _, _, frame in batch])
            for (number, position, _), boxes in zip(batch, found, strict=True):
                yield number, position, boxes

    def _fit(self, clips: Sequence[Candidates], views: Sequence[ViewsOf]) -> list[list[list[_Fitted]]]:
        """Return per clip and frame FAN's face in each view, in full batches over frames and clips."""
        _, fan = self._load()
        found: list[list[list[_Fitted]]] = [[] for _ in clips]

        def crops() -> Iterator[tuple[list[_Fitted], View, UInt8[np.ndarray, "256 256 3"]]]:
            for clip, views_of, frames in zip(clips, views, found, strict=True):
                for position, frame in enumerate(clip.frames):
                    frames.append([])
                    for view in views_of(position, frame):
                        yield frames[-1], view, cut(frame.image, view)

        for batch in _batches(crops(), fan.crops_at_once):
            faces = fan.faces([crop for _, _, crop in batch], [view for _, view, _ in batch])
            for (fitted, view, _), face in zip(batch, faces, strict=True):
                fitted.append(_Fitted(face, view))
        return found


def _all_good(frame: Sequence[_Fitted]) -> bool:
    return bool(frame) and all(fitted.good for fitted in frame)


def _hint_views(clip: Candidates) -> ViewsOf:
    def views(_: int, frame: video.Frame) -> list[View]:
        box = hint_at(clip.hints, frame.index)
        return [view_of(box, HINT_SCALE)] if mostly_inside(box, frame.image) else []

    return views


def _views_at(views: Mapping[int, Sequence[View]]) -> ViewsOf:
    return lambda position, _: views.get(position, ())


def _interpolated_views(detected: Mapping[int, Sequence[Box]], times: Sequence[int], reference_scale: float) -> ViewsOf:
    """Return views of detected boxes, interpolated in time for the other frames."""
    keys = sorted(detected)

    def views(position: int, _: video.Frame) -> list[View]:
        before = keys[bisect_right(keys, position) - 1]
        after = keys[min(bisect_right(keys, position), len(keys) - 1)]
        span = times[after] - times[before]
        share = (times[position] - times[before]) / span if span > 0 and position != before else 0.0
        boxes = interpolate_boxes(detected[before], detected[after], share)
        return [view_of(box, reference_scale) for box in boxes]

    return views


def _sample_frames(frames: Iterable[video.Frame], times: list[int]) -> Iterator[tuple[int, video.Frame]]:
    """Yield the frames for box detection, including the first and the last; fill `times` with those of all frames."""
    last: tuple[int, int] | None = None
    skipped: tuple[int, video.Frame] | None = None
    for position, frame in enumerate(frames):
        times.append(frame.pts_us)
        if last is None or position - last[0] >= _BOX_EVERY or frame.pts_us - last[1] >= _BOX_EVERY_US:
            last, skipped = (position, frame.pts_us), None
            yield position, frame
        else:
            skipped = position, frame
    if skipped is not None:
        yield skipped


def _batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
