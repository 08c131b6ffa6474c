"""face-alignment's networks over many clips at once: boxes on some frames, FAN on batches of crops of all of them."""

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
from pipelines.faces.fan import CROPS_AT_ONCE, HINT_SCALE, Fan, View, cut, fits, load_fan, view_of
from pipelines.faces.requirements import require_package
from pipelines.media import video

_T = TypeVar("_T")

MIN_SCORE = 0.3  # mean height of the heat maps' peaks below which a face is looked for again
_LOOK_EVERY = 4  # frames, and
_LOOK_EVERY_US = 500_000  # no longer than that: boxes are interpolated between

ViewsOf = Callable[[int, video.Frame], Sequence[View]]
"""What FAN is to be shown of a frame, by its position among the clip's candidates."""


@dataclass(frozen=True, eq=False)
class _Fitted:
    """A face and what FAN was shown of it; `view` is judged by `fits`."""

    face: Face
    view: View

    @property
    def good(self) -> bool:
        return self.face.score >= MIN_SCORE and fits(self.face, self.view)


class FaceAlignmentDetector:
    """S3FD or YuNet boxes and FAN. Batches over frames and clips, so on a GPU it wants many clips at once.

    A clip is looked at in up to three passes over its frames: boxes on every fourth, FAN on all, and both again on the
    frames where FAN is unsure or its landmarks lie elsewhere than the box. Known boxes replace the first.

    Raises ValueError for a device other than cpu and cuda, and on first use where that device or the weights are
    missing.
    """

    name = "face-alignment"

    def __init__(
        self, device: str = "cpu", max_faces: int = 5, boxes: str = "yunet", weights: str | None = None
    ) -> None:
        if device.partition(":")[0] not in CROPS_AT_ONCE:
            raise ValueError(f"face-alignment runs on cpu or cuda, got the device {device!r}")
        self.clips_at_once = 16 if device.startswith("cuda") else 1
        self._device = device
        self._max_faces = max_faces
        self._boxes = boxes
        self._weights = weights
        self._networks: tuple[FaceDetector, Fan] | None = None

    def _load(self) -> tuple[FaceDetector, Fan]:
        if self._networks is None:
            require_package(self.name)
            import torch

            if self._device.startswith("cuda") and not torch.cuda.is_available():
                raise ValueError("face-alignment was asked to run on cuda, and there is no CUDA device here")
            fan = load_fan(locate("fan_2d", self._weights), self._device)
            finder = create_face_detector(
                self._boxes, device=self._device, max_faces=self._max_faces, weights=self._weights
            )
            self._networks = finder, fan
        return self._networks

    def detect(self, image: UInt8[np.ndarray, "height width 3"]) -> list[Face]:
        """All faces of a picture, largest first."""
        finder, fan = self._load()
        views = [view_of(box, finder.reference_scale) for box in finder.find([image])[0]]
        return largest_first(fan.faces([cut(image, view) for view in views], views))

    def follow(self, clips: Sequence[Candidates]) -> list[list[list[Face]]]:
        """Per clip, per frame: the faces, largest first. With hints, the face that they show.

        All faces are reported of frames whose hint shows none.
        """
        hinted = [number for number, clip in enumerate(clips) if clip.hints]
        led = zip(hinted, self._follow_hints([clips[n] for n in hinted]), strict=True)
        found = {number: frames for number, frames in led if frames is not None}
        others = [number for number in range(len(clips)) if number not in found]
        found.update(zip(others, self._follow_boxes([clips[n] for n in others]), strict=True))
        return [
            [largest_first(fitted.face for fitted in frame) for frame in found[number]] for number in range(len(clips))
        ]

    def _follow_hints(self, clips: Sequence[Candidates]) -> list[list[list[_Fitted]] | None]:
        """Per clip what FAN makes of the known boxes; None where they lead nowhere."""
        found = self._fit(clips, [_hinted(clip) for clip in clips])
        led = [not hints_failed([_all_good(frame) for frame in frames]) for frames in found]
        doubtful = [
            {position for position, frame in enumerate(frames) if not _all_good(frame)} if good else set()
            for frames, good in zip(found, led, strict=True)
        ]
        self._look_again(clips, found, doubtful)
        return [frames if good else None for frames, good in zip(found, led, strict=True)]

    def _follow_boxes(self, clips: Sequence[Candidates]) -> list[list[list[_Fitted]]]:
        finder, _ = self._load()
        times: list[list[int]] = [[] for _ in clips]
        looked: list[dict[int, list[Box]]] = [{} for _ in clips]
        pictures = (
            (number, position, frame)
            for number, clip in enumerate(clips)
            for position, frame in _frames_to_look_at(clip.frames, times[number])
        )
        for number, position, boxes in self._find(pictures):
            looked[number][position] = boxes
        found = self._fit(clips, [_between(*plan, finder.reference_scale) for plan in zip(looked, times, strict=True)])
        doubtful = [
            {
                position
                for position, frame in enumerate(frames)
                if position not in seen and not all(f.good for f in frame)
            }
            for frames, seen in zip(found, looked, strict=True)
        ]
        self._look_again(clips, found, doubtful)
        return found

    def _look_again(
        self, clips: Sequence[Candidates], found: list[list[list[_Fitted]]], doubtful: Sequence[set[int]]
    ) -> None:
        """Find the boxes of the doubtful frames themselves, and fit those."""
        finder, _ = self._load()
        again = [number for number, positions in enumerate(doubtful) if positions]
        pictures = (
            (number, position, frame)
            for number in again
            for position, frame in enumerate(clips[number].frames)
            if position in doubtful[number]
        )
        views: dict[int, dict[int, list[View]]] = {number: {} for number in again}
        for number, position, boxes in self._find(pictures):
            views[number][position] = [view_of(box, finder.reference_scale) for box in boxes]
        better = self._fit([clips[n] for n in again], [_only(views[n]) for n in again])
        for number, frames in zip(again, better, strict=True):
            for position in doubtful[number]:
                found[number][position] = frames[position]

    def _find(self, pictures: Iterable[tuple[int, int, video.Frame]]) -> Iterator[tuple[int, int, list[Box]]]:
        """Boxes in frames of several clips, in batches; clip, position, boxes."""
        finder, _ = self._load()
        for batch in _batches(pictures, finder.pictures_at_once):
            found = finder.find([frame.image for _, _, frame in batch])
            for (number, position, _), boxes in zip(batch, found, strict=True):
                yield number, position, boxes

    def _fit(self, clips: Sequence[Candidates], views: Sequence[ViewsOf]) -> list[list[list[_Fitted]]]:
        """Per clip, per frame: what FAN finds in each view, in full batches over frames and clips."""
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


def _hinted(clip: Candidates) -> ViewsOf:
    def views(_: int, frame: video.Frame) -> list[View]:
        box = hint_at(clip.hints, frame.index)
        return [view_of(box, HINT_SCALE)] if mostly_inside(box, frame.image) else []

    return views


def _only(views: Mapping[int, Sequence[View]]) -> ViewsOf:
    return lambda position, _: views.get(position, ())


def _between(looked: Mapping[int, Sequence[Box]], times: Sequence[int], reference_scale: float) -> ViewsOf:
    """The boxes of frames that were looked at, interpolated in time for those that were not."""
    keys = sorted(looked)

    def views(position: int, _: video.Frame) -> list[View]:
        before = keys[bisect_right(keys, position) - 1]
        after = keys[min(bisect_right(keys, position), len(keys) - 1)]
        span = times[after] - times[before]
        share = (times[position] - times[before]) / span if span > 0 and position != before else 0.0
        return [view_of(box, reference_scale) for box in interpolate_boxes(looked[before], looked[after], share)]

    return views


def _frames_to_look_at(frames: Iterable[video.Frame], times: list[int]) -> Iterator[tuple[int, video.Frame]]:
    """The frames in which boxes are looked for, the first and the last among them; fills `times` with those of all."""
    last: tuple[int, int] | None = None
    unseen: tuple[int, video.Frame] | None = None
    for position, frame in enumerate(frames):
        times.append(frame.pts_us)
        if last is None or position - last[0] >= _LOOK_EVERY or frame.pts_us - last[1] >= _LOOK_EVERY_US:
            last, unseen = (position, frame.pts_us), None
            yield position, frame
        else:
            unseen = position, frame
    if unseen is not None:
        yield unseen


def _batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
