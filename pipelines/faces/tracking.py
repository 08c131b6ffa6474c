"""Link the detections of consecutive frames into tracks, and choose the clip's main face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.faces.boxes import overlap
from pipelines.faces.face import Face


@dataclass(frozen=True)
class Track:
    """One face followed through a clip: positions in the list of frames given, and the face in each."""

    frames: tuple[int, ...]
    faces: tuple[Face, ...]

    @property
    def extent(self) -> float:
        """Sum over frames of the box's larger side: long and large tracks first."""
        return float(sum(max(f.box[2] - f.box[0], f.box[3] - f.box[1]) for f in self.faces))


def link_tracks(faces: Sequence[Sequence[Face]], min_overlap: float = 0.15) -> tuple[Track, ...]:
    """Join the faces of consecutive frames that overlap, greedily, the best overlap first. A gap does not end a
    track: a face that comes back to where it was is the same face."""
    open_tracks: list[tuple[list[int], list[Face]]] = []
    for position, found in enumerate(faces):
        pairs = sorted(
            (
                (overlap(track[1][-1].box, face.box), number, index)
                for number, track in enumerate(open_tracks)
                for index, face in enumerate(found)
            ),
            key=lambda pair: (-pair[0], pair[1], pair[2]),
        )
        used_tracks: set[int] = set()
        used_faces: set[int] = set()
        for score, number, index in pairs:
            if score < min_overlap or number in used_tracks or index in used_faces:
                continue
            open_tracks[number][0].append(position)
            open_tracks[number][1].append(found[index])
            used_tracks.add(number)
            used_faces.add(index)
        for index, face in enumerate(found):
            if index not in used_faces:
                open_tracks.append(([position], [face]))
    return tuple(Track(frames=tuple(frames), faces=tuple(members)) for frames, members in open_tracks)


def choose_track(faces: Sequence[Sequence[Face]], dominance: float = 1.5) -> Track | None:
    """The clip's main face: the longest and largest track.

    Returns None when there is no face at all.

    Raises:
        AmbiguousFace: a second track present in the same frames has more than 1/`dominance` of the main one's extent.
    """
    tracks = sorted(link_tracks(faces), key=lambda track: (-track.extent, track.frames))
    if not tracks:
        return None
    main = tracks[0]
    for other in tracks[1:]:
        together = len(set(main.frames) & set(other.frames))
        if together >= max(2, len(other.frames) // 2) and other.extent * dominance > main.extent:
            raise AmbiguousFace(
                f"two faces of about the same size share {together} frames, and neither is clearly the main one"
            )
    return main


class AmbiguousFace(ValueError):
    """Several faces share the clip and none is clearly the main one."""
