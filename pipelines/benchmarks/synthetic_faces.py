"""Measure landmark detectors on synthetic heads, whose 68 points are known in any number of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from rich.table import Table

from pipelines.benchmarks.point_errors import PARTS, error_of, per_mille, percent, shows_face
from pipelines.faces.boxes import overlap
from pipelines.faces.face import LandmarkDetector, make_face
from pipelines.faces.face_detectors import FaceDetector
from pipelines.synthetic.corpus.corpus import CorpusConfig, plan_clips
from pipelines.synthetic.corpus.render_clips import draw_clip
from pipelines.synthetic.motion.motion import Motion

FRAMES_OF_EACH = 2
_SIZE = 256
_SAME_FACE_IOU = 0.3  # least overlap of a box with the one around the points; a false detection has almost none


@dataclass(frozen=True, eq=False)
class KnownFace:
    """An image of one face whose points are known: x and y in pixels."""

    image: UInt8[np.ndarray, "height width 3"]
    points: Float[np.ndarray, "68 2"]


@dataclass(frozen=True, eq=False)
class KnownFigures:
    """Measurements on known faces."""

    num_faces: int
    errors: Mapping[str, Sequence[Float[np.ndarray, " points"]]]
    """Detector -> errors of each face found, in units of the eye distance."""
    num_boxes: int
    """Number of faces that YuNet found."""


def render_known_faces(num_people: int) -> Iterator[list[KnownFace]]:
    """Yield two uncompressed frames of each person: the first `num_people` of a corpus with procedural motion."""
    from pipelines.synthetic.render.renderer import Renderer  # loads the head model's data: not for `--help`

    renderer = Renderer(_SIZE)
    config = CorpusConfig(identities=max(1, num_people), videos=1, size=_SIZE, motion="procedural")
    for spec, _ in zip(plan_clips(config), range(num_people), strict=False):
        person, scene, motion = draw_clip(spec, config, ())
        # A quarter and three quarters into the clip: two expressions and poses of their own.
        moments = [_moment(motion, len(motion) * (1 + 2 * part) // 4) for part in range(FRAMES_OF_EACH)]
        drawn = renderer.frames([person] * FRAMES_OF_EACH, [scene] * FRAMES_OF_EACH, moments)
        pairs = zip(drawn.images.numpy(), drawn.points.double().numpy(), strict=True)
        yield [KnownFace(image, points) for image, points in pairs]


def _moment(motion: Motion, frame: int) -> Motion:
    part = slice(frame, frame + 1)
    return Motion(motion.fps, motion.actions[part], motion.angles[part], motion.travel[part])


def measure_known(
    detectors: Mapping[str, LandmarkDetector],
    yunet: FaceDetector,
    people: Iterable[Sequence[KnownFace]],
    advance: Callable[[], None],
) -> KnownFigures:
    """Run every detector on every face. `advance` is called after each person."""
    errors: dict[str, list[Float[np.ndarray, " points"]]] = {name: [] for name in detectors}
    num_faces = num_boxes = 0
    for known in people:
        for face in known:
            num_faces += 1
            for name, detector in detectors.items():
                there = [found for found in detector.detect(face.image) if shows_face(found, face.points)]
                errors[name] += [error_of(found.landmarks, face.points) for found in there[:1]]
            around = make_face(face.points, 1.0).box
            (boxes,) = yunet.find([face.image])
            num_boxes += any(overlap(box, around) > _SAME_FACE_IOU for box in boxes)
        advance()
    return KnownFigures(num_faces, errors, num_boxes)


def known_table(figures: KnownFigures) -> Table:
    """Return a table with a row per detector, and one for YuNet."""
    table = Table("detector", "found", "68", *PARTS, title="Parametric heads", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, errors in figures.errors.items():
        parts = [percent(errors, points).removesuffix(" %") for points in (slice(None), *PARTS.values())]
        table.add_row(name, f"{len(errors)}/{figures.num_faces}", *parts)
    table.add_row("yunet", f"{figures.num_boxes}/{figures.num_faces}")
    table.caption = "points: mean distance from the true ones, in % of the distance of the eyes' outer corners"
    return table


def known_counts(figures: KnownFigures) -> dict[str, int]:
    """Return the table's figures as integers, for `--json`: errors in thousandths of the eye distance."""
    counts = {"heads": figures.num_faces, "yunet heads found": figures.num_boxes}
    for name, errors in figures.errors.items():
        counts[f"{name} heads found"] = len(errors)
        if errors:
            counts[f"{name} heads error per mille"] = per_mille(errors)
            counts |= {f"{name} heads {part} error per mille": per_mille(errors, at) for part, at in PARTS.items()}
    return counts
