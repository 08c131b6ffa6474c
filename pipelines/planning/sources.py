"""Find the films of a corpus and name them: a folder in one of the known layouts, tars of one, a film, or a manifest.

Listings are lazy: a corpus of a million clips is never held in memory.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from pipelines import storage
from pipelines.dataset.schema import ClipKey, key_name
from pipelines.media.container import VIDEO_SUFFIXES
from pipelines.media.frame_folder import FRAME_SUFFIXES
from pipelines.planning import manifests
from pipelines.planning.clip_annotations import clips_of_videos, read_annotations
from pipelines.planning.corpus_files import File, check_utf8, list_files
from pipelines.planning.layout_choice import Choice, choose_layout, is_voxceleb_clip, is_voxceleb_video
from pipelines.planning.layouts import Layout, LayoutName
from pipelines.planning.splits import ListedSplits, is_split_folder, split_of_folders

_SHOWN = 5  # films that an error names
_MAX_KINDS = 4


@dataclass(frozen=True, slots=True)
class Source:
    """One input clip, or a whole video that box files cut into clips (its `key.clip` is then `WHOLE_VIDEO`)."""

    key: ClipKey
    relative: str
    """Path inside the corpus, recorded in the shards; that of a folder of frames ends with a slash."""
    num_bytes: int
    split: str | None = None
    """The split that the corpus prescribes, or `layouts.TRAIN`."""
    location: str | None = None
    """Path or URL to read it from, if that is not `relative` below the corpus."""
    offset: int | None = None
    """First byte inside the uncompressed tar at `location`."""
    checksum: str | None = None
    """Checksum from the store's listing, if any: equal checksums mean equal content."""
    fallback: str | None = None
    """Name with suffix for identity and video, used when two videos of a flat folder differ only in their suffix."""


@dataclass(frozen=True, slots=True)
class BoxFile:
    """VoxCeleb's text file with the face boxes of one clip."""

    key: ClipKey
    relative: str


WHOLE_VIDEO = "*"
"""Clip name of a source video that its box files will cut into clips."""


@dataclass
class Listing:
    """The films of a corpus, to be iterated once, and how they are named."""

    items: Iterator[Source | BoxFile]
    layout: LayoutName
    identities_from: str
    notes: list[str] = field(default_factory=list)
    """Notes for the user; complete once the films have been iterated."""

    def __iter__(self) -> Iterator[Source | BoxFile]:
        return self.items


def find_sources(src: str, layout: LayoutName = "auto", identity_from: str | None = None) -> Listing:
    """Find the clips of `src` (a folder, a video, a tar or a manifest), and their box files.

    Args:
        identity_from: regular expression searched in each film's path, with the group `identity` and, where wanted,
            `video` and `clip`.

    Raises:
        FileNotFoundError: `src` does not exist.
        ValueError: no video in it, a layout or expression that does not fit, or a broken manifest or tar. Those of
            films are raised while they are iterated.
    """
    if not storage.exists(src):
        raise FileNotFoundError(f"{src} does not exist")
    folder, suffix = storage.is_folder(src), PurePosixPath(src).suffix.lower()
    if not folder and storage.is_local(src) and not storage.local_path(src).is_file():
        raise ValueError(f"{src} is neither a folder nor a regular file")  # opening a pipe would block
    if layout == "manifest" or (layout == "auto" and not folder and suffix in manifests.SUFFIXES):
        if folder:
            raise ValueError(f"{src} is a folder; a manifest is a file ({', '.join(sorted(manifests.SUFFIXES))})")
        if identity_from is not None:
            raise ValueError("a manifest says itself who is in a film: leave out --identity-from")
        return _from_manifest(src)
    if not folder and suffix != ".tar" and suffix not in VIDEO_SUFFIXES:
        raise ValueError(
            f"{src} is neither a folder, a video ({', '.join(sorted(VIDEO_SUFFIXES))}), a .tar nor a manifest "
            f"({', '.join(sorted(manifests.SUFFIXES))})"
        )
    choice = choose_layout(src, layout, identity_from) if folder or suffix == ".tar" else Choice("flat")
    notes = list(choice.notes)
    return Listing(_from_files(src, choice, notes), choice.name, choice.identities_from, notes)


def nfc(name: str) -> str:
    """Return the name in Unicode's composed form: macOS writes é as two characters, others as one."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


Namer = Callable[[File], tuple[ClipKey, str | None] | None]
"""Film -> its key and split; None if the layout does not fit."""


def _from_files(src: str, choice: Choice, notes: list[str]) -> Iterator[Source | BoxFile]:
    name, annotated = _namer(src, choice), _annotated_videos(src, choice)
    is_flat = choice.identity_from is None and choice.name in ("flat", "frames")
    number = compressed = skipped = framed = num_misfits = 0
    misfits: list[str] = []
    others: Counter[str] = Counter()
    for file in list_files(src):
        compressed += file.is_compressed
        framed += file.is_frames
        if choice.is_film(file):
            if choice.is_skipped(file):
                skipped += 1
                continue
            number += 1
            if raw := annotated and annotated.get(file.name):
                yield from _annotated_clips(file, choice, raw)
                continue
            named = name(file)
            if named is None:
                num_misfits += 1
                if len(misfits) < _SHOWN:
                    misfits.append(file.relative)
                continue
            key, split = named
            fallback = key_name(file.relative.replace("/", "_")) if is_flat and file.is_video else None
            yield Source(key, file.relative, file.num_bytes, split, file.location, file.offset, file.checksum, fallback)
        elif choice.name == "voxceleb" and file.suffix == ".txt" and is_voxceleb_clip(file.parts):
            yield BoxFile(_key(*_last_three(file)), file.relative)
        elif not file.is_frames:
            others[file.suffix or "without suffix"] += 1
    if misfits:
        raise ValueError(_misfit_error(src, choice, misfits, num_misfits, number))
    if not number:
        raise ValueError(_empty_error(src, choice, compressed, framed, skipped))
    if skipped:
        folders = ", ".join(sorted(choice.layout.skipped if choice.layout is not None else ()))
        notes.append(f"{skipped} raw or intermediate films are left out ({folders})")
    if framed:  # the pictures of frames are no files of their own
        others = Counter({suffix: count for suffix, count in others.items() if suffix not in FRAME_SUFFIXES})
    if others:
        kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in others.most_common(_MAX_KINDS))
        more = ", ..." if len(others) > _MAX_KINDS else ""
        notes.append(f"{others.total():,} files that are no videos are left out: {kinds}{more}")


def _annotated_videos(src: str, choice: Choice) -> Mapping[str, list[str]]:
    """Return YouTube id -> names of its clips, if SRC has annotations of its layout."""
    url = choice.annotations(src)
    return clips_of_videos(read_annotations(url)) if url is not None else {}


def _annotated_clips(file: File, choice: Choice, names: Sequence[str]) -> Iterator[Source | BoxFile]:
    """Yield the clips that annotations cut from a raw video, each with the place of its box."""
    assert choice.layout is not None
    split = split_of_folders(file.parts[:-1])
    for name in names:
        found = choice.layout.names(name) or (file.name, name, "0")
        yield Source(_key(*found), file.relative, file.num_bytes, split, file.location, file.offset, file.checksum)
        yield BoxFile(_key(*found), f"{choice.layout.annotations}#{name}")


def _misfit_error(src: str, choice: Choice, misfits: list[str], num_misfits: int, number: int) -> str:
    shown = ", ".join(misfits) + (f" and {num_misfits - len(misfits)} more" if num_misfits > len(misfits) else "")
    if choice.identity_from is not None:
        return f"--identity-from finds no identity in {num_misfits} of {number} films: {shown}"
    asked = choice.layout.pattern if choice.layout is not None else "identity/video/clip.mp4"
    return f"{num_misfits} of {number} films below {src} are not named as layout {choice.name} asks ({asked}): {shown}"


def _empty_error(src: str, choice: Choice, compressed: int, framed: int, skipped: int) -> str:
    looked = sorted(VIDEO_SUFFIXES if choice.has_videos else FRAME_SUFFIXES)
    what = "video" if choice.has_videos else "folder of frames"
    hint = f"; {compressed} compressed archives are not read: unpack them, or repack as .tar" if compressed else ""
    if framed and not choice.has_frames:
        hint += f"; {framed} folders of pictures: --layout frames reads them as films"
    if skipped:
        hint += f"; {skipped} films lie in folders that layout {choice.name} leaves out"
    return f"no {what} in {src} (looked for {', '.join(looked)}{hint})"


def _namer(src: str, choice: Choice) -> Namer:
    if choice.identity_from is not None:
        return lambda file: _named_by_expression(choice, file)
    if choice.layout is not None:
        return _namer_of_layout(src, choice.layout)
    if choice.name == "voxceleb":
        return _voxceleb_name
    top = PurePosixPath(storage.absolute(src)).name
    return lambda file: (_flat_key(file, top), split_of_folders(file.parts[:-1]))


def _namer_of_layout(src: str, layout: Layout) -> Namer:
    listed = ListedSplits.read(src, layout)

    def name(file: File) -> tuple[ClipKey, str | None] | None:
        names = layout.names(file.stem)
        if names is None:
            return None
        split = listed.split_of(file.stem) or split_of_folders(file.parts[:-1], layout.splits)
        return _key(*names), split

    return name


def _named_by_expression(choice: Choice, file: File) -> tuple[ClipKey, str | None] | None:
    assert choice.identity_from is not None
    match = choice.identity_from.search(file.relative)
    groups = match.groupdict() if match is not None else {}
    if not groups.get("identity"):
        return None
    video = groups.get("video") or file.stem.replace("/", "_")
    return _key(groups["identity"], video, groups.get("clip") or "0"), split_of_folders(file.parts[:-1])


def _voxceleb_name(file: File) -> tuple[ClipKey, str | None] | None:
    parts = file.parts
    if is_voxceleb_video(parts) and not is_voxceleb_clip(parts):  # published boxes cut identity/video.mp4 into clips
        return _key(parts[-2], _without_suffix(parts[-1]), WHOLE_VIDEO), split_of_folders(parts[:-2])
    if len(parts) < 3 or is_split_folder(parts[-3]):
        return None
    return _key(*_last_three(file)), split_of_folders(parts[:-3])


def _last_three(file: File) -> tuple[str, str, str]:
    identity, video, name = file.parts[-3:]
    return identity, video, _without_suffix(name)


def _without_suffix(name: str) -> str:
    stem, _, suffix = name.rpartition(".")
    return stem if stem and suffix else name


def _flat_key(file: File, top: str) -> ClipKey:
    """Return a key of the whole path: every film is a person. `top` names the frames that lie in SRC itself."""
    stem = file.relative.rstrip("/") if file.is_frames else file.relative[: -len(file.suffix)]
    name = key_name((top if stem == "." else stem).replace("/", "_"))
    return ClipKey(name, name, "0")


def _key(identity: str, video: str, clip: str) -> ClipKey:
    return ClipKey(key_name(nfc(identity)), key_name(video), clip if clip == WHOLE_VIDEO else key_name(clip))


def _from_manifest(src: str) -> Listing:
    manifest = manifests.Manifest(src)
    return Listing(_manifest_sources(src, manifest), "manifest", manifest.identities_from, manifest.notes)


def _manifest_sources(src: str, manifest: manifests.Manifest) -> Iterator[Source]:
    number = 0
    for row in manifest.rows():
        number += 1
        stem = key_name(PurePosixPath(storage.name(row.path)).stem)
        try:
            key = ClipKey(nfc(row.identity) or stem, row.video or stem, row.clip or "0")
        except ValueError as error:
            raise ValueError(f"{row.where}: {error}") from error
        # An absolute path depends on this machine, and a URL may hold a signature: record only the file's name.
        relative = storage.name(row.path) + "/" * row.path.endswith("/") if row.is_absolute else row.path
        location = row.path if row.is_absolute else None
        yield Source(key, check_utf8(relative), row.num_bytes, row.split, location, None, row.checksum)
    if not number:
        raise ValueError(f"{src} names no clip")
