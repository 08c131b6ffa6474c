"""`sfumato bench small-faces`: preprocess full-HD clips with faces of 40 to 400 pixels, with and without second look.

The clips are made of real ones: a clip with a face, scaled so that the face has the wanted size, lies at a random place
of a clip that shows no face. Faces grow by a constant factor from clip to clip.
"""

from __future__ import annotations

import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.table import Table

from pipelines import assets, storage
from pipelines.benchmarks.rounds import BenchmarkResult
from pipelines.cli import console, progress
from pipelines.dataset.rows import ClipRow, Reject
from pipelines.dataset.schema import ClipKey
from pipelines.faces.detectors import create_detector, require_weights
from pipelines.faces.face import LandmarkDetector, face_size
from pipelines.machine import cpu_seconds
from pipelines.media import video
from pipelines.media.decoder.process import Decoder
from pipelines.planning.plan import PlannedClip
from pipelines.preprocess.config import ClipConfig
from pipelines.preprocess.process_clips import process_clips
from pipelines.preprocess.stopwatch import Stopwatch

HEADS = ("clip_langer", "clip_single_face", "clip_carphone", "clip_cap12", "clip_cap13")
BACKGROUND = "clip_noface_face"  # begins with three seconds without a face
SIZES = (40.0, 400.0)  # pixels
GROUPS = (64.0, 100.0, 160.0, 250.0)  # bounds between the lines of the table
_WIDTH, _HEIGHT = 1920, 1080
_SAME_SIZE = 1.25  # factor


@dataclass(frozen=True)
class Options:
    """Measure how many full-HD clips with small faces give a row, with and without the second look, and the cost."""

    clips: int = 100
    """Clips with a face; a tenth as many without one are measured too."""
    seconds: float = 1.0
    """Length of each clip, at most 3."""
    keep: Path | None = None
    """Folder to leave the clips in, named by their faces' sizes."""
    seed: int = 0
    """Chooses the places of the faces."""

    def __post_init__(self) -> None:
        if self.clips < 2:
            raise ValueError(f"--clips must be at least 2, got {self.clips}")
        if not 0.8 <= self.seconds <= 3:
            raise ValueError(f"--seconds must lie in [0.8, 3], got {self.seconds}")


@dataclass(frozen=True)
class MadeClip:
    """A clip of the benchmark. `size` is the face's larger side in pixels; 0: no face."""

    path: Path
    size: float


@dataclass(frozen=True)
class Figures:
    """Clips of one range of sizes. Field names are part of the JSON."""

    clips: int
    kept: Mapping[str, int]
    """"first look" and "second look" -> clips that gave a row with a face of the right size."""
    cpu_s: Mapping[str, float]
    """CPU seconds of the worker per clip, without those of the decoder's process."""


def run(options: Options) -> BenchmarkResult:
    """Run the benchmark. Raises AssetError when the clips or the detectors' files cannot be fetched."""
    begin = time.monotonic()
    require_weights("mediapipe")
    with storage.ScratchFolder() as scratch:
        folder = Path(scratch) if options.keep is None else options.keep
        folder.mkdir(parents=True, exist_ok=True)
        clips = make_clips(options, folder)
        figures = measure(clips)
    console().print(_table(figures))
    total = {look: sum(line.kept[look] for name, line in figures.items() if name != "no face") for look in _LOOKS}
    return BenchmarkResult(
        made=(),
        counts={"clips": options.clips, **{f"kept by the {look}": number for look, number in total.items()}},
        seconds=time.monotonic() - begin,
        figures={name: asdict(line) for name, line in figures.items()},
    )


def make_clips(options: Options, folder: Path) -> list[MadeClip]:
    """Write the clips into `folder`, those without a face last."""
    paths = assets.fetch_many((*HEADS, BACKGROUND))
    detector = create_detector("mediapipe")
    heads = [_measure_head(paths[name], detector) for name in HEADS]
    rng = np.random.default_rng(options.seed)
    sizes = [*np.geomspace(*SIZES, options.clips).tolist(), *[0.0] * max(1, options.clips // 10)]
    clips = []
    with progress() as bar:
        task = bar.add_task("clips", total=len(sizes))
        for number, size in enumerate(sizes):
            path = folder / f"{number:03d}-{round(size):03d}px.mp4"
            head = heads[number % len(heads)]
            place = rng.uniform((size, size), (_WIDTH - size, _HEIGHT - size)).tolist()
            _make_clip(path, paths[BACKGROUND], head if size else None, size, place, options.seconds)
            clips.append(MadeClip(path, size))
            bar.advance(task)
    return clips


@dataclass(frozen=True)
class _Head:
    path: Path
    size: float
    x: float
    y: float
    """The middle of the face, in pixels of the clip."""


def _measure_head(path: Path, detector: LandmarkDetector) -> _Head:
    (frame,) = video.decode(path, frame_indices=[10])
    face = detector.detect(frame.image)[0]
    return _Head(path, face_size(face), (face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2)


def _make_clip(
    to: Path, background: Path, head: _Head | None, size: float, place: Sequence[float], seconds: float
) -> None:
    inputs = ["-t", str(seconds), "-i", str(background)]
    scene = f"[0:v]fps=25,scale={_WIDTH}:{_HEIGHT}"
    if head is not None:
        scale = size / head.size
        x, y = round(place[0] - scale * head.x), round(place[1] - scale * head.y)
        inputs += ["-t", str(seconds), "-i", str(head.path)]
        scene += f"[back];[1:v]fps=25,scale=iw*{scale:.6f}:-2[head];[back][head]overlay={x}:{y}:shortest=1"
    command = [video.ffmpeg_executable(), "-nostdin", "-loglevel", "error", "-y", *inputs, "-filter_complex", scene]
    command += ["-an", "-c:v", "libx264", "-preset", "veryfast", "-crf", "16", "-pix_fmt", "yuv420p", str(to)]
    subprocess.run(command, check=True, capture_output=True)


_LOOKS = ("first look", "second look")


def measure(clips: Sequence[MadeClip]) -> dict[str, Figures]:
    """Preprocess each clip with the first look alone and with both; return the figures by range of sizes."""
    config = replace(ClipConfig(), size=64, audio=False)
    detectors = {
        "first look": create_detector("mediapipe", min_face=None),
        "second look": create_detector("mediapipe", min_face=config.quality.min_face),
    }
    number, kept, cpu = Counter[str](), Counter[tuple[str, str]](), defaultdict[tuple[str, str], float](float)
    with Decoder() as decoder, progress() as bar:
        for detector in detectors.values():
            _preprocess(clips[0].path, detector, decoder, config)  # loads the models
        task = bar.add_task("preprocess", total=len(clips))
        for clip in clips:
            name = _group(clip.size)
            number[name] += 1
            for look, detector in detectors.items():
                outcome, seconds = _preprocess(clip.path, detector, decoder, config)
                kept[name, look] += isinstance(outcome, ClipRow) and _shows(outcome, clip.size)
                cpu[name, look] += seconds
            bar.advance(task)
    return {
        name: Figures(
            clips=number[name],
            kept={look: kept[name, look] for look in _LOOKS},
            cpu_s={look: cpu[name, look] / number[name] for look in _LOOKS},
        )
        for name in number
    }


def _group(size: float) -> str:
    if not size:
        return "no face"
    bounds = (SIZES[0], *GROUPS, SIZES[1])
    low = max(bound for bound in bounds[:-1] if bound <= size + 1e-6)
    return f"{low:.0f}-{bounds[bounds.index(low) + 1]:.0f} px"


def _preprocess(
    path: Path, detector: LandmarkDetector, decoder: Decoder, config: ClipConfig
) -> tuple[ClipRow | Reject, float]:
    """Return the clip's outcome, and the worker's CPU seconds, without those of the decoder's process."""
    clip = PlannedClip(ClipKey(path.stem, "film", "0"), path.name, path.stat().st_size, "train", 0)
    begin = cpu_seconds()
    (outcome,) = process_clips([clip], str(path.parent), detector, decoder, config, Stopwatch())
    return outcome, cpu_seconds() - begin


def _shows(row: ClipRow, size: float) -> bool:
    """Whether the row's face has the size of the clip's. A row of a clip without a face counts, too."""
    found = float(np.median((row.bbox[:, 2:] - row.bbox[:, :2]).max(axis=1)))
    return not size or size / _SAME_SIZE < found < size * _SAME_SIZE


def _table(figures: Mapping[str, Figures]) -> Table:
    table = Table("face", "clips", title="Full-HD clips that give a row", title_justify="left")
    for look in _LOOKS:
        table.add_column(f"kept, {look}", justify="right")
        table.add_column("CPU ms", justify="right")
    for name, line in figures.items():
        cells = [cell for look in _LOOKS for cell in (str(line.kept[look]), f"{1000 * line.cpu_s[look]:.0f}")]
        table.add_row(name, str(line.clips), *cells)
    table.caption = "CPU: of the worker per clip, without its decoder's process"
    return table
