"""Choose the layout of a corpus: the one that is asked for, or the one that the names of all its films fit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from pipelines import storage
from pipelines.planning.corpus_files import File, corpus_root, list_files
from pipelines.planning.layouts import LAYOUTS, SPLIT_FOLDERS, Layout, LayoutName, layout_named

_IDENTITY = re.compile(r"id\d{5}$")
YOUTUBE_VIDEO = re.compile(r"(?:.*/)?(?P<youtube>[\w-]{11})")
"""Path of a raw video that annotations cut into clips."""
_TOLERATED = 100  # more misfits than fits, after which a layout is not tried further


@dataclass(frozen=True)
class Choice:
    """How the films of a corpus are named."""

    name: LayoutName
    layout: Layout | None = None
    identity_from: re.Pattern[str] | None = None
    """The user's own expression with the group `identity`, and perhaps `video` and `clip`."""
    has_frames: bool = False
    """Whether folders of frames are films."""
    has_videos: bool = True
    """Whether video files are films."""
    any_pictures: bool = False
    """Whether the pictures of a folder are frames whatever their names."""
    notes: tuple[str, ...] = ()

    @property
    def identities_from(self) -> str:
        """What the identities are taken from, for the user."""
        if self.identity_from is not None:
            return "--identity-from"
        if self.layout is not None:
            return self.layout.identity_from
        return {"voxceleb": "the folders", "frames": "each folder of frames"}.get(self.name, "each file")

    @cached_property
    def _skipped(self) -> frozenset[str]:
        return self.layout.skipped if self.layout is not None else frozenset()

    def annotations(self, src: str) -> str | None:
        """Return the URL of the layout's annotations, if they lie in SRC."""
        return _annotations_url(src, self.layout) if self.layout is not None else None

    def is_film(self, file: File) -> bool:
        """Whether the file is a film of the corpus.

        A folder of pictures is one if their names are numbered and, in a data set's layout, its path fits: others may
        hold thumbnails.
        """
        if not file.is_frames:
            return self.has_videos and file.is_video
        fits = self.layout is None or self.layout.expression.fullmatch(file.stem) is not None
        return self.has_frames and fits and (file.is_numbered or self.any_pictures)

    def is_skipped(self, file: File) -> bool:
        """Whether the film lies in a folder of raw or intermediate films."""
        return bool(self._skipped) and not self._skipped.isdisjoint(file.parts[:-1])


def choose_layout(src: str, wanted: LayoutName, identity_from: str | None) -> Choice:
    """Return how the films of a folder or tar are named.

    Raises:
        ValueError: a bad expression, or one beside a layout that says itself who is who.
    """
    if identity_from is not None:
        if wanted not in ("auto", "flat", "frames"):
            raise ValueError(f"--identity-from and --layout {wanted} both say who is in a film: give one of them")
        compiled = _compile(identity_from)
        if wanted == "frames":
            return Choice("frames", None, compiled, has_frames=True, has_videos=False, any_pictures=True)
        found = detect_layout(src) if wanted == "auto" else Choice("flat")
        return Choice("frames" if found.name == "frames" else "flat", None, compiled, has_frames=found.has_frames)
    if wanted == "auto":
        return detect_layout(src)
    layout = layout_named(wanted)
    if layout is not None:
        return Choice(wanted, layout, has_frames=layout.has_frames)
    frames = wanted == "frames"
    return Choice(wanted, has_frames=frames, has_videos=not frames, any_pictures=frames)


def _compile(expression: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(expression)
    except re.error as error:
        raise ValueError(f"--identity-from {expression!r} is not a regular expression: {error}") from error
    known = ("identity", "video", "clip")
    if "identity" not in compiled.groupindex or not set(compiled.groupindex) <= set(known):
        raise ValueError(
            f"--identity-from {expression!r} needs a group (?P<identity>...), and may have (?P<video>...) and "
            f"(?P<clip>...); it has {', '.join(compiled.groupindex) or 'none'}"
        )
    return compiled


@dataclass
class _Candidate:
    """A layout that is tried on one film after another."""

    layout: Layout
    has_annotations: bool
    fits: int = 0
    misfits: int = 0
    signs: int = 0
    first_misfit: str = ""

    @property
    def is_hopeless(self) -> bool:
        return self.misfits > self.fits + _TOLERATED

    def look_at(self, file: File) -> None:
        if self.layout.skipped and not self.layout.skipped.isdisjoint(file.parts[:-1]):
            return
        stem = file.stem
        is_raw = self.has_annotations and YOUTUBE_VIDEO.fullmatch(stem) is not None
        if not is_raw and self.layout.expression.fullmatch(stem) is None:
            self.misfits += 1
            self.first_misfit = self.first_misfit or file.relative
            return
        self.fits += 1
        self.signs += self.layout.sign is None or self.layout.sign_expression.match(stem) is not None

    @property
    def is_likely(self) -> bool:
        """Whether most films fit, and the names are those of this set and no other."""
        signed = self.signs and self.signs >= self.layout.sign_share * self.fits
        return bool(self.fits > self.misfits and (signed or self.has_annotations))


@dataclass
class _Forms:
    """The layouts that all films of one kind, videos or folders of frames, have fitted so far."""

    candidates: list[_Candidate]
    number: int = 0
    is_voxceleb: bool = True
    is_three_deep: bool = True

    def look_at(self, file: File) -> None:
        self.number += 1
        parts = file.parts if self.is_voxceleb or self.is_three_deep else ()
        self.is_voxceleb = self.is_voxceleb and (is_voxceleb_clip(parts) or is_voxceleb_video(parts))
        self.is_three_deep = self.is_three_deep and len(_below_splits(parts)) == 3
        for candidate in self.candidates:
            candidate.look_at(file)
        if self.number % _TOLERATED == 0:
            self.candidates = [candidate for candidate in self.candidates if not candidate.is_hopeless]

    @property
    def is_decided(self) -> bool:
        """Whether no layout is left."""
        return not (self.candidates or self.is_voxceleb or self.is_three_deep)


def detect_layout(src: str) -> Choice:
    """Return the layout that the names of all films fit, else `flat`, or `frames` if there are folders of frames only.

    VoxCeleb's tree is recognised by the names of its identities, or by all films lying at identity/video/clip.
    """
    videos = _Forms([_Candidate(layout, _annotations_url(src, layout) is not None) for layout in LAYOUTS])
    folders = _Forms([_Candidate(layout, False) for layout in LAYOUTS if layout.has_frames])
    for file in list_files(src):
        if file.is_video:
            videos.look_at(file)
            if videos.is_decided:
                break
        elif file.is_frames and file.is_numbered:
            folders.look_at(file)
    forms = videos if videos.number else folders
    has_frames = forms is folders and folders.number > 0
    if forms.number and forms.is_voxceleb:
        return Choice("voxceleb", has_frames=has_frames)
    likely = [candidate for candidate in forms.candidates if candidate.is_likely]
    likely.sort(key=lambda candidate: not candidate.has_annotations)
    for candidate in likely:
        if not candidate.misfits:
            layout = candidate.layout
            return Choice(layout.name, layout, has_frames=layout.has_frames)
    if forms.number and forms.is_three_deep:
        return Choice("voxceleb", has_frames=has_frames)
    notes = tuple(map(_misfit_note, likely[:1]))
    # Folders of frames beside videos may be thumbnails, unless they are named like those of a data set.
    return Choice("frames" if has_frames else "flat", has_frames=has_frames, has_videos=not has_frames, notes=notes)


def _misfit_note(candidate: _Candidate) -> str:
    total, name = candidate.fits + candidate.misfits, candidate.layout.name
    return (
        f"warning: {candidate.fits} of the first {total} films are named as in layout {name}, but "
        f"{candidate.first_misfit} is not, so the layout is not used: move such films away, or give --layout"
    )


def _annotations_url(src: str, layout: Layout) -> str | None:
    if layout.annotations is None:
        return None
    url = storage.join(corpus_root(src), layout.annotations)
    return url if storage.exists(url) else None


def _below_splits(parts: Sequence[str]) -> Sequence[str]:
    """Return the path below the folders of splits that it begins with."""
    start = 0
    while start < len(parts) - 1 and parts[start].casefold() in SPLIT_FOLDERS:
        start += 1
    return parts[start:]


def is_voxceleb_clip(parts: Sequence[str]) -> bool:
    """Whether the path ends with identity/video/clip and the identity is named as VoxCeleb's."""
    return len(parts) >= 3 and bool(_IDENTITY.match(parts[-3]))


def is_voxceleb_video(parts: Sequence[str]) -> bool:
    """Whether the path ends with identity/video and the identity is named as VoxCeleb's."""
    return len(parts) >= 2 and bool(_IDENTITY.match(parts[-2]))
