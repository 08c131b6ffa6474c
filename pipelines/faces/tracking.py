"""Link the detections of consecutive frames into tracks, and choose the clip's main face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.faces.boxes import overlap
from pipelines.faces.face import Face


@dataclass(frozen=True)
class Track:
    """One face tracked through a clip: positions in the given list of frames, and the face in each."""

    frames: tuple[int, ...]
    faces: tuple[Face, ...]

    @property
    def extent(self) -> float:
        """Sum over the frames of the box's larger side in pixels, by which tracks are ranked."""
        return float(sum(max(f.box[2] - f.box[0], f.box[3] - f.box[1]) for f in self.faces))


def link_tracks(faces: Sequence[Sequence[Face]], min_overlap: float = 0.15) -> tuple[Track, ...]:
    """Join overlapping faces of successive frames greedily, the largest overlap (IoU) first.

    A gap does not end a track: a face that reappears at the same place is the same face.
    """
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
    """Return the track of the clip's main face, the one with the largest extent; None without any face.

    Raises:
        AmbiguousFace: another track in the same frames has more than 1/`dominance` of the main one's extent.
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
    """Several faces are in the clip, and none is clearly the main one."""
