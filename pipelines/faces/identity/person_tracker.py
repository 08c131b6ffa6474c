"""Follow one person through a film: by position from frame to frame, by face recognition where position cannot tell.

The recogniser (12 ms a face) looks only after a gap, a jump, a cut, or where two faces meet; all other frames cost an
alignment of 112 pixels. Measured on the demo's clips: the aligned face changes by at most 0.04 of the full range from
one frame to the next and by at least 0.13 from one person to another, its points move by at most 0.045 of the face's
size. Two frames of one person have a similarity of at least 0.49, those of two people at most 0.26.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from pipelines import assets
from pipelines.cli import warn
from pipelines.faces.boxes import overlap
from pipelines.faces.face import Face, face_size
from pipelines.faces.identity.face_choice import LARGEST, FaceChoice
from pipelines.faces.identity.sface import SAME_PERSON, FaceRecogniser, align

Image = UInt8[np.ndarray, "height width 3"]
Aligned = UInt8[np.ndarray, "112 112 3"]

_MAX_MOVE = 0.35  # of the face's size, from frame to frame
_MAX_CHANGE = 0.07  # of the aligned face, as a share of the full range
_MAX_GAP_S = 0.2  # without the face, after which a face at the same place is taken for the same
_DIFFERENT = 0.25  # below it a face at the place of the person is somebody else
_SAME_BOX = 0.5  # overlap (IoU) of two detections of one face
_STILL_THERE = 0.3  # overlap with a stranger's box in the frame before
_CONFIRMED_S = 0.3  # a face that is lost sooner was a false detection
_TO_APPEAR_S = 1.0  # after the first face, in which the chosen one has to be there
_FIRST_LOOK_S, _MAX_LOOKS = 0.5, 10  # pictures of the person that are kept; the time between them doubles
_MAX_WAIT = 25  # frames until a stranger is looked at again; doubles from 1


@dataclass
class _Stranger:
    """A face of the last frame that is not the person's."""

    image: Image
    face: Face
    frames: int
    """Until it is looked at again."""
    wait: int
    """Frames from the last look to the next."""


class PersonTracker:
    """Finds the chosen person in the frames of one film, which come in order."""

    def __init__(self, choice: FaceChoice = LARGEST, recogniser: FaceRecogniser | None = None) -> None:
        """Choose among the faces of the first frame that has any, or of a frame within a second after it."""
        self._choice = choice
        self._recogniser: FaceRecogniser | None = recogniser or FaceRecogniser()
        self._appeared_s: float | None = None
        self._num_first = 0
        self._last: tuple[Face, Aligned, float] | None = None
        """The person's face, aligned, and when it was seen."""
        self._began_s = 0.0
        self._looks: list[Aligned] = []
        self._embeddings: list[Float[np.ndarray, 128]] = []
        self._next_look_s, self._look_gap_s = 0.0, _FIRST_LOOK_S
        self._strangers: list[_Stranger] = []

    @property
    def problem(self) -> str | None:
        """A phrase that says that the chosen face was not there; None while it may come, or when it came."""
        if self._last is not None or self._appeared_s is None:
            return None
        return self._choice.problem(self._num_first)

    def find(self, image: Image, faces: Sequence[Face], seconds: float) -> Face | None:
        """Return the person's face among the `faces` of the next frame (largest first), or None.

        Args:
            seconds: time of the frame.
        """
        if self._last is not None and not faces:
            self._strangers = []
        if not faces:
            return None
        if self._last is None or self._was_a_false_start(seconds):
            return self._begin(image, faces, seconds)
        last, before, _ = self._last
        nearest = min(faces, key=lambda face: _move(face, last))
        aligned = align(image, nearest.landmarks)
        in_place = self._is_in_place(nearest, faces, seconds)
        if in_place and _change(aligned, before) <= _MAX_CHANGE:
            return self._accept(image, nearest, aligned, faces, seconds)
        found = self._recognise(image, faces, nearest if in_place else None)
        if found is None:
            return None
        return self._accept(image, found, align(image, found.landmarks), faces, seconds)

    def _begin(self, image: Image, faces: Sequence[Face], seconds: float) -> Face | None:
        if self._appeared_s is None or self._last is not None:
            self._appeared_s = seconds
        if seconds - self._appeared_s > _TO_APPEAR_S:
            return None
        self._num_first = max(self._num_first, len(faces))
        face = self._choice.find(faces)
        if face is None:
            return None
        self._began_s, self._looks, self._embeddings = seconds, [], []
        self._next_look_s, self._look_gap_s = seconds, _FIRST_LOOK_S
        return self._accept(image, face, align(image, face.landmarks), faces, seconds)

    def _was_a_false_start(self, seconds: float) -> bool:
        assert self._last is not None
        seen_s = self._last[2]
        return seen_s - self._began_s < _CONFIRMED_S and seconds - seen_s > _MAX_GAP_S

    def _is_in_place(self, face: Face, faces: Sequence[Face], seconds: float) -> bool:
        """Whether a face is where the person was, and no other face is near."""
        assert self._last is not None
        last, _, seen_s = self._last
        others = [other for other in faces if other is not face and overlap(other.box, face.box) < _SAME_BOX]
        is_alone = all(_move(other, last) > 2 * _MAX_MOVE for other in others)
        return is_alone and _move(face, last) <= _MAX_MOVE and seconds - seen_s <= _MAX_GAP_S

    def _accept(self, image: Image, face: Face, aligned: Aligned, faces: Sequence[Face], seconds: float) -> Face:
        self._last = (face, aligned, seconds)
        self._strangers = [_Stranger(image, other, _MAX_WAIT, _MAX_WAIT) for other in faces if other is not face]
        if seconds >= self._next_look_s and len(self._looks) < _MAX_LOOKS:
            self._looks.append(aligned)
            self._next_look_s, self._look_gap_s = seconds + self._look_gap_s, 2 * self._look_gap_s
        return face

    def _recognise(self, image: Image, faces: Sequence[Face], in_place: Face | None) -> Face | None:
        """Return the face that looks like the person's. Known strangers are looked at at intervals only."""
        assert self._last is not None
        last = self._last[0]
        waiting = [(face, self._stranger_at(image, face)) for face in faces]
        looked_at = [face for face, stranger in waiting if stranger is None or stranger.frames <= 0]
        scores = self._similarities(image, looked_at)
        if scores is None:
            return min(faces, key=lambda face: _move(face, last))
        least = [_DIFFERENT if face is in_place else SAME_PERSON for face in looked_at]
        alike = [(score, face) for score, face, limit in zip(scores, looked_at, least, strict=True) if score >= limit]
        if alike:
            best = max(score for score, _ in alike)
            # Pictures that the recogniser cannot tell apart: the nearer one.
            return min((face for score, face in alike if score > best - 0.02), key=lambda face: _move(face, last))
        self._strangers = [
            _Stranger(image, face, stranger.frames - 1, stranger.wait)
            if stranger is not None and stranger.frames > 0
            else _looked_at(image, face, stranger)
            for face, stranger in waiting
        ]
        return None

    def _stranger_at(self, image: Image, face: Face) -> _Stranger | None:
        """Return the stranger of the last frame whose face this is, by place and look."""
        near = [stranger for stranger in self._strangers if overlap(stranger.face.box, face.box) >= _STILL_THERE]
        best = max(near, key=lambda stranger: overlap(stranger.face.box, face.box), default=None)
        if best is None:
            return None
        before = align(best.image, best.face.landmarks)
        return best if _change(align(image, face.landmarks), before) <= _MAX_CHANGE else None

    def _similarities(self, image: Image, faces: Sequence[Face]) -> Float[np.ndarray, faces] | None:
        """Return the greatest similarity of each face to the person's pictures; None without the network."""
        if not faces:
            return np.zeros(0, np.float32)
        if self._recogniser is None:
            return None
        try:
            self._embeddings += list(self._recogniser.embed_aligned(self._looks[len(self._embeddings) :]))
            found = self._recogniser.embed_aligned([align(image, face.landmarks) for face in faces])
        except (assets.AssetError, assets.CacheError) as error:
            warn(f"people are told apart by position only: {error}")
            self._recogniser = None
            return None
        return np.asarray((found @ np.stack(self._embeddings).T).max(axis=1))


def _looked_at(image: Image, face: Face, stranger: _Stranger | None) -> _Stranger:
    wait = 1 if stranger is None else min(2 * stranger.wait, _MAX_WAIT)
    return _Stranger(image, face, wait - 1, wait)


def _move(face: Face, last: Face) -> float:
    """Return the mean distance of the points, in units of the last face's size."""
    return float(np.linalg.norm(face.landmarks - last.landmarks, axis=-1).mean()) / max(face_size(last), 1.0)


def _change(a: Aligned, b: Aligned) -> float:
    """Return the mean difference of two aligned faces at 14 pixels, as a share of the full range."""
    small = [cv2.resize(face, (14, 14), interpolation=cv2.INTER_AREA) for face in (a, b)]
    return float(cv2.absdiff(*small).mean()) / 255
