"""`sfumato bench preprocess`: CPU seconds per clip, compared with the bare stages and with a reference script.

Three methods are measured on the same videos in one run, in interleaved rounds; the medians count:

    ours         `process_shard`, as a worker of `sfumato preprocess` runs it: decoder process, detector, shard written
    parts        only the indispensable stages, each alone: PyAV decodes up to the last candidate frame, the detector
                 runs on the candidate frames, the frames kept are cropped and encoded as JPEG
    reference    the reference script, as public scripts do it: `pipelines.benchmarks.reference_script`

The start-up costs of a worker (decoder process, detector) are measured separately, because they are spread over all
clips of a run.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from pipelines import storage
from pipelines.benchmarks import reference_script, stage_floor
from pipelines.benchmarks.clips import fetch_clips, given_clips, synthesize_clips
from pipelines.benchmarks.rounds import BenchmarkResult, Cost, measure_interleaved
from pipelines.cli import CommandResult, console
from pipelines.dataset import schema
from pipelines.dataset.schema import ClipKey
from pipelines.dataset.shard_report import ShardReport
from pipelines.faces.detectors import create_detector, require_weights
from pipelines.faces.face import LandmarkDetector
from pipelines.machine import cpu_seconds, describe_machine, in_words
from pipelines.media.decoder.process import Decoder
from pipelines.planning.plan import PlannedClip
from pipelines.planning.plan_file import plan_row, write_plan
from pipelines.preprocess.config import ClipConfig
from pipelines.preprocess.shard_worker import ShardSpec, process_shard

VOXCELEB2_CLIPS = 1_128_246
_CORES = 64  # of the cluster that the projection speaks of


@dataclass(frozen=True)
class Options:
    """Measure CPU seconds per clip, compared with decode, landmarks, crop and encode alone, and a reference script."""

    videos: tuple[str, ...] = ()
    """Videos to measure with; by default real clips of the catalogue."""
    synthetic: int = 0
    """Measure on clips of this many synthetic people, at most --clips; all clips differ, as in a large corpus."""
    clips: int = 6
    """Clips per round; the videos are repeated as needed."""
    seconds: float = 7.8
    """Length that the videos are cut to; the default is the mean of VoxCeleb2's clips."""
    rounds: int = 5
    """Number of rounds; the median counts."""
    reference: bool = True
    """Measure the reference script, which takes most of the time."""

    def __post_init__(self) -> None:
        for name in ("clips", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, got {getattr(self, name)}")
        if self.synthetic < 0 or (self.synthetic and self.videos):
            raise ValueError("give --videos, or --synthetic with the number of people to draw")
        if not self.seconds > 0:
            raise ValueError(f"--seconds must be more than 0, got {self.seconds}")


@dataclass(frozen=True)
class Figures:
    """The measurements, per clip. Field names are part of the JSON."""

    ours: Cost
    """Without a worker's start-up costs."""
    parts: Mapping[str, Cost]
    """decode, landmarks, crop, encode."""
    first_look: Cost
    """Landmarks without the second look at frames in which the first finds no face."""
    reference: Cost | None
    stages: Mapping[str, float]
    """Wall-clock seconds of `ours` by stage, from the shard's report; stages overlap with the decoder process."""
    start_up: Mapping[str, float]
    """CPU seconds of a worker's start: the decoder process, and the detector with its first image."""
    outcomes: Mapping[str, int]
    """Number of clips that became rows ("done"), and of the others by their codes."""
    frames: Mapping[str, float]
    """Frames per clip: in the file, decoded, sampled and kept."""
    bytes_per_clip: int
    """Size of the shard per clip."""
    machine: Mapping[str, str]

    @property
    def parts_cpu_s(self) -> float:
        """CPU seconds of all parts together."""
        return sum(cost.cpu_s for cost in self.parts.values())

    @property
    def ratios(self) -> dict[str, float]:
        """CPU seconds of `ours` over the parts, of landmarks over the first look, and of the script over `ours`."""
        ratios = {
            "ours_over_parts": self.ours.cpu_s / self.parts_cpu_s,
            "landmarks_over_first_look": self.parts["landmarks"].cpu_s / self.first_look.cpu_s,
        }
        if self.reference is not None:
            ratios["reference_over_ours"] = self.reference.cpu_s / self.ours.cpu_s
        return ratios

    @property
    def voxceleb2_hours(self) -> dict[str, float]:
        """Hours for as many such clips as VoxCeleb2 has, on one core and on 64."""
        hours = VOXCELEB2_CLIPS * self.ours.cpu_s / 3600
        return {"1 core": hours, f"{_CORES} cores": hours / _CORES}


def run(options: Options) -> CommandResult:
    """Run the benchmark.

    Raises:
        FileNotFoundError: one of the videos does not exist.
        ValueError: a video cannot be read.
        AssetError: no clip of the catalogue can be fetched.
    """
    begin = time.monotonic()
    require_weights("mediapipe")
    with storage.ScratchFolder() as scratch:
        folder = Path(scratch)
        cut = folder / "corpus"
        if options.synthetic:
            videos, notes = synthesize_clips(min(options.synthetic, options.clips), cut, options.seconds)
        elif options.videos:
            videos, notes = given_clips(options.videos, cut, options.seconds)
        else:
            videos, notes = fetch_clips(cut, options.seconds)
        if options.reference and not reference_script.can_run():
            notes.append("the reference script was not measured: it needs scikit-image, pip install '.[dev]'")
        figures = _measure(options, videos, folder)
    console().print(_table(figures))
    ratios = figures.ratios
    notes += [f"{name.replace('_', ' ')}: {ratio:.2f}" for name, ratio in ratios.items()]
    hours = figures.voxceleb2_hours
    return BenchmarkResult(
        made=(),
        counts={"videos": len(videos), "clips": options.clips, "rounds": options.rounds},
        seconds=time.monotonic() - begin,
        notes=tuple(notes),
        figures={**asdict(figures), "voxceleb2_hours": hours},
        ratios=ratios,
    )


def _measure(options: Options, videos: Sequence[Path], folder: Path) -> Figures:
    config = ClipConfig()
    detector, detector_s = _warm_detector()
    first = create_detector("mediapipe", min_face=None)
    first.detect(np.zeros((256, 256, 3), np.uint8))
    chosen = [videos[i % len(videos)] for i in range(options.clips)]
    spec = _plan(chosen, folder, config)
    reports: list[ShardReport] = []

    def ours() -> None:
        with Decoder() as decoder:
            decoder.start()
            reports.append(process_shard(spec, detector, decoder))

    prepared = {video: stage_floor.prepare_measured_clip(video, detector, config) for video in dict.fromkeys(chosen)}
    clips = [prepared[video] for video in chosen]
    methods: dict[str, tuple[Callable[[], object], int]] = {"start": (_start_decoder, 1), "ours": (ours, len(chosen))}
    methods |= {
        name: (part, len(chosen)) for name, part in stage_floor.stage_functions(clips, detector, first, config).items()
    }
    if options.reference and reference_script.can_run():
        methods["reference"] = lambda: _run_reference(chosen, folder, first, config.size), len(chosen)
    ours()
    reports.clear()
    costs = measure_interleaved(methods, options.rounds, warm_up=False)
    # The decoder process ends with each round, so that its CPU seconds are counted. Its start is subtracted below.
    start = costs["start"]
    whole = costs["ours"]
    report = reports[-1]
    return Figures(
        ours=Cost(whole.cpu_s - start.cpu_s / len(chosen), whole.wall_s - start.wall_s / len(chosen)),
        parts={name: costs[name] for name in stage_floor.NAMES},
        first_look=costs[stage_floor.FIRST_LOOK],
        reference=costs.get("reference"),
        stages=_median_stages(reports, len(chosen)),
        start_up={"decoder": start.cpu_s, "detector": detector_s},
        outcomes={"done": report.num_done, **report.codes},
        frames=stage_floor.mean_frames(clips),
        bytes_per_clip=report.num_bytes // len(chosen),
        machine=describe_machine("av", "mediapipe", "numpy", "pyarrow"),
    )


def _warm_detector() -> tuple[LandmarkDetector, float]:
    """Return the loaded detector, and the CPU seconds of loading it."""
    begin = cpu_seconds()
    detector = create_detector("mediapipe")
    detector.detect(np.zeros((256, 256, 3), np.uint8))
    return detector, cpu_seconds() - begin


def _start_decoder() -> None:
    with Decoder() as decoder:
        decoder.start()


def _plan(videos: Sequence[Path], folder: Path, config: ClipConfig) -> ShardSpec:
    """Write a plan with the videos as clips of one shard below `folder`; return the shard's spec."""
    clips = [
        PlannedClip(ClipKey(video.stem, "film", f"{number:05d}"), video.name, video.stat().st_size, "train", 0)
        for number, video in enumerate(videos)
    ]
    root, corpus = str(folder / "set"), str(folder / "corpus")
    settings = {"clip": asdict(config)}
    config_sha256 = schema.digest_of(settings)
    write_plan(root, settings, corpus, [clips])
    digest = schema.spec_digest(config_sha256, map(plan_row, clips))
    return ShardSpec(root, corpus, "train", 0, config, config_sha256, digest)


def _run_reference(videos: Sequence[Path], folder: Path, detector: LandmarkDetector, size: int) -> None:
    for video in videos:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            reference_script.process_video(video, Path(scratch), detector, size)


def _median_stages(reports: Sequence[ShardReport], num_clips: int) -> dict[str, float]:
    names = Counter(name for report in reports for name in report.seconds)
    return {name: statistics.median(report.seconds.get(name, 0.0) for report in reports) / num_clips for name in names}


def _table(figures: Figures) -> Table:
    table = Table(title=f"A clip, on {in_words(figures.machine)}", title_justify="left")
    for column in ("method", "CPU ms", "wall ms", "share of parts", "clips/s a core"):
        table.add_column(column, justify="left" if column == "method" else "right")
    total = figures.parts_cpu_s
    for name, cost in (*figures.parts.items(), ("ours", figures.ours), ("reference script", figures.reference)):
        if cost is not None:
            cells = (f"{cost.cpu_s * 1e3:.1f}", f"{cost.wall_s * 1e3:.1f}", f"{cost.cpu_s / total:.1%}")
            table.add_row(name, *cells, f"{1 / cost.cpu_s:.2f}")
    frames = ", ".join(f"{number:.0f} {what}" for what, number in figures.frames.items())
    stages = ", ".join(f"{name} {seconds * 1e3:.1f}" for name, seconds in figures.stages.items())
    once = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in figures.start_up.items())
    hours = ", ".join(f"{number:,.1f} h on {where}" for where, number in figures.voxceleb2_hours.items())
    outcomes = ", ".join(f"{number} {name}" for name, number in figures.outcomes.items())
    table.caption = (
        f"{outcomes}; {figures.bytes_per_clip:,} bytes a clip\nframes of a clip: {frames}\n"
        f"our stages, wall ms: {stages}\nonce a worker, CPU: {once}\nVoxCeleb2's {VOXCELEB2_CLIPS:,} clips: {hours}"
    )
    table.caption_justify = "left"
    return table
