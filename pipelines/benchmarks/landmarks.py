"""`sfumato bench landmarks`: errors of the detectors against hand-marked points and the true points of synthetic heads,
and their agreement on video."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from rich.table import Table

from pipelines import assets
from pipelines.benchmarks.hand_marked import MarkedPicture, load_marked
from pipelines.benchmarks.point_errors import INNER, error_of, per_mille, percent, shows_face
from pipelines.benchmarks.synthetic_faces import (
    KnownFigures,
    known_counts,
    known_table,
    measure_known,
    render_known_faces,
)
from pipelines.cli import CommandResult, console, progress
from pipelines.faces.detectors import DETECTORS, create_detector, require_weights
from pipelines.faces.face import Candidates, Face, LandmarkDetector
from pipelines.faces.face_detectors import create_face_detector
from pipelines.media import video
from pipelines.media.timestamps import read_frame_table

CLIPS = ("clip_langer", "clip_single_face", "clip_carphone", "clip_cap12", "clip_cap13")
REFERENCE = "dlib"  # the clips have no marked points, so agreement with this detector is measured
_CROP_SCALE = 2.0  # side of the measured crop, in units of the marked face's box


@dataclass(frozen=True)
class Options:
    """Measure the landmark detectors: error on four hand-marked images and on synthetic heads with known points,
    agreement and cost on real clips."""

    detectors: tuple[Literal["mediapipe", "face-alignment", "dlib"], ...] = DETECTORS  # type: ignore[assignment]
    """Detectors to measure. One without its weights or package is skipped and named."""
    frames: int = 24
    """Frames sampled per clip, spread evenly."""
    synthetic: int = 40
    """Number of synthetic people to measure on, two frames of each; 0 for none."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Device of face-alignment's networks."""
    boxes: Literal["yunet", "s3fd", "blazeface"] = "yunet"
    """Face detector of face-alignment."""
    weights: str | None = None
    """Path or URL of the folder with face-alignment's weights."""

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise ValueError(f"--frames must be at least 2, got {self.frames}")
        if self.synthetic < 0:
            raise ValueError(f"--synthetic must be at least 0, got {self.synthetic}")


@dataclass(frozen=True, eq=False)
class _Figures:
    """Measurements of one detector. Errors are in units of the distance between the outer corners of the eyes."""

    found: int  # marked faces found in the whole images
    errors: Sequence[Float[np.ndarray, " points"]]  # one per marked image in whose crop the face was found
    clips: Sequence[Sequence[Sequence[Face]]]  # per clip, per frame
    ms_per_frame: float


def run(options: Options) -> CommandResult:
    """Measure the detectors. Raises AssetError when the images or clips cannot be fetched."""
    begin = time.monotonic()
    detectors, notes = _available(options)
    marked = load_marked()
    paths = assets.fetch_many(CLIPS)
    known: KnownFigures | None = None
    with progress() as bar:
        task = bar.add_task("measuring", total=len(detectors) * (len(marked) + len(CLIPS)))
        clips = [_frames(paths[name], options.frames) for name in CLIPS] if detectors else []
        figures = {
            name: _measure(detector, marked, clips, lambda: bar.advance(task)) for name, detector in detectors.items()
        }
        if detectors and options.synthetic:
            task = bar.add_task("parametric heads", total=options.synthetic)
            yunet = create_face_detector("yunet", device="cpu", max_faces=5, weights=None)
            known = measure_known(detectors, yunet, render_known_faces(options.synthetic), lambda: bar.advance(task))
    if figures:
        console().print(_table(figures, len(marked)))
    if known is not None:
        console().print(known_table(known))
    counts = {"detectors": len(figures), "skipped": len(notes), "pictures": len(marked)}
    counts["frames"] = sum(len(clip) for clip in clips)
    for name, measured in figures.items():
        counts |= _counts(name, measured, figures.get(REFERENCE))
    if known is not None:
        counts |= known_counts(known)
    return CommandResult((), counts, time.monotonic() - begin, ok=bool(figures), notes=tuple(notes))


def _available(options: Options) -> tuple[dict[str, LandmarkDetector], list[str]]:
    """Return the detectors that can run here, and a note for each that cannot."""
    detectors: dict[str, LandmarkDetector] = {}
    notes = []
    for name in dict.fromkeys(options.detectors):
        try:
            require_weights(name, boxes=options.boxes, weights=options.weights)
        except ValueError as error:
            notes.append(f"{name} skipped: {error}")
            continue
        detectors[name] = create_detector(name, device=options.device, boxes=options.boxes, weights=options.weights)
    return detectors, notes


def _frames(path: Path, number: int) -> list[video.Frame]:
    total = len(read_frame_table(path))
    return list(video.decode(path, frame_indices=np.linspace(0, total - 1, number).round().astype(int).tolist()))


def _measure(
    detector: LandmarkDetector,
    marked: Sequence[MarkedPicture],
    clips: Sequence[Sequence[video.Frame]],
    advance: Callable[[], None],
) -> _Figures:
    found, errors = 0, []
    for picture in marked:
        found += any(shows_face(face, picture.points) for face in detector.detect(picture.image))
        image, points = crop_around_face(picture)
        there = [face for face in detector.detect(image) if shows_face(face, points)]
        errors += [error_of(face.landmarks, points) for face in there[:1]]
        advance()
    followed = []
    begin = time.perf_counter()
    for clip in clips:
        followed += detector.follow([Candidates(clip, {})])
        advance()
    seconds = time.perf_counter() - begin
    return _Figures(found, errors, followed, 1000 * seconds / max(1, sum(len(clip) for clip in clips)))


def crop_around_face(picture: MarkedPicture) -> tuple[UInt8[np.ndarray, "height width 3"], Float[np.ndarray, "68 2"]]:
    """Return the crop around the marked face, and the points in its pixels, so that face detection is easy."""
    low, high = picture.points.min(axis=0), picture.points.max(axis=0)
    grow = (high - low) * (_CROP_SCALE - 1) / 2
    x0, y0 = np.maximum(np.floor(low - grow), 0).astype(int)
    x1, y1 = np.ceil(high + grow).astype(int)
    return np.ascontiguousarray(picture.image[y0:y1, x0:x1]), picture.points - [x0, y0]


def _agreement(figures: _Figures, reference: _Figures) -> list[Float[np.ndarray, " points"]]:
    """Return the distance from the reference's landmarks in each frame where both found a face."""
    pairs = [
        (mine[0].landmarks, other[0].landmarks)
        for clip, theirs in zip(figures.clips, reference.clips, strict=True)
        for mine, other in zip(clip, theirs, strict=True)
        if mine and other
    ]
    return [error_of(mine, other) for mine, other in pairs]


def _table(figures: dict[str, _Figures], num_pictures: int) -> Table:
    table = Table("detector", "found", "68 points", "inner 51", f"from {REFERENCE}, inner 51", "face in", "ms/frame")
    for column in table.columns[1:]:
        column.justify = "right"
    reference = figures.get(REFERENCE)
    for name, measured in figures.items():
        other = reference if reference is not None and name != REFERENCE else None
        frames = [faces for clip in measured.clips for faces in clip]
        table.add_row(
            name,
            f"{measured.found}/{num_pictures}",
            percent(measured.errors),
            percent(measured.errors, INNER),
            percent(_agreement(measured, other), INNER) if other is not None else "",
            f"{sum(map(bool, frames))}/{len(frames)}",
            f"{measured.ms_per_frame:.1f}",
        )
    table.caption = "points: mean distance from the hand-marked ones, in % of the distance of the eyes' outer corners"
    return table


def _counts(name: str, measured: _Figures, reference: _Figures | None) -> dict[str, int]:
    """Return the table's figures as integers, for `--json`: errors in thousandths of the eye distance."""
    counts = {f"{name} found": measured.found, f"{name} measured": len(measured.errors)}
    if measured.errors:
        counts[f"{name} error per mille"] = per_mille(measured.errors)
        counts[f"{name} inner error per mille"] = per_mille(measured.errors, INNER)
    if reference is not None and reference is not measured:
        counts[f"{name} from {REFERENCE} per mille"] = per_mille(_agreement(measured, reference), INNER)
    return counts
