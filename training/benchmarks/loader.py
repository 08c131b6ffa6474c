"""`sfumato bench loader`: the cost of loading an episode, relative to decoding its JPEGs and to reading videos.

Three methods to load K + 1 frames are measured in interleaved rounds of one run, as medians:

    decode    OpenCV decodes the frames' JPEGs from memory, a lower bound for any loader
    loader    EpisodeLoader as in training: sample, read by byte range, checksum, decode, resize, choose the warp source
    videos    like public reproductions: decode the mp4 with OpenCV, sample K + 1 frames, detect landmarks in each,
              resize
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.table import Table

from pipelines import storage
from pipelines.benchmarks.rounds import BenchmarkResult, Cost, measure_interleaved
from pipelines.cli import Artefact, CommandResult, console
from pipelines.dataset.manifest import read_manifest
from pipelines.dataset.reader import FrameRef
from pipelines.machine import describe_machine, in_words
from training.benchmarks.clips import draw_episodes, make_dataset, warm_detector
from training.config import ModelConfig, TrainConfig
from training.episodes.loader import EpisodeLoader
from training.episodes.source import open_dataset, open_loader

_MOST_EPISODES_PER_STEP = 8


@dataclass(frozen=True)
class Options:
    """Episodes per second from shards, compared with pure JPEG decoding and with reading videos."""

    data: str | None = None
    """Data set to read; default: one made of three clips of the catalogue."""
    videos: tuple[str, ...] = ()
    """With --data: videos to read like public reproductions; without any, that method is not measured."""
    episodes: int = 160
    """Episodes per round."""
    shots: int = 8
    """K: number of shots of an episode, the target not included."""
    size: int | None = None
    """Height and width of the loaded frames, pixels; default: the data set's."""
    rounds: int = 5
    """Number of rounds; the median is reported."""
    threads: int = 1
    """Number of decoding threads of the first two methods."""

    def __post_init__(self) -> None:
        for name in ("episodes", "shots", "rounds", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Figures:
    """Measurements per episode."""

    decode: Cost
    loader: Cost
    videos: Cost | None
    bytes_read: int | None
    """Bytes read according to the kernel; None if it does not report them, or for remote storage."""
    bytes_of_frames: int
    """Size of the frames' JPEGs."""
    machine: Mapping[str, str]

    @property
    def ratios(self) -> dict[str, float]:
        """Ratios of CPU seconds between methods, and of bytes."""
        ratios = {"loader_over_decode": self.loader.cpu_s / self.decode.cpu_s}
        if self.videos is not None:
            ratios["videos_over_loader"] = self.videos.cpu_s / self.loader.cpu_s
        if self.bytes_read is not None:
            ratios["bytes_over_frames"] = self.bytes_read / self.bytes_of_frames
        return ratios


def run(options: Options) -> CommandResult:
    """Run the benchmark.

    Raises:
        ValueError: there is no data set at `data`, or none of its videos has K + 1 frames.
        FileNotFoundError: a video does not exist.
    """
    started = time.monotonic()
    missing = next((film for film in options.videos if not Path(film).is_file()), None)
    if missing is not None:
        raise FileNotFoundError(f"{missing} does not exist")
    with ExitStack() as stack:
        root, videos = options.data, options.videos
        if root is None:
            folder = Path(stack.enter_context(storage.ScratchFolder()))
            root, videos = make_dataset(folder)
        figures, num_videos = _measure(options, root, videos)
    notes = () if videos else ("no videos given: the reproductions' method was not measured",)
    made = () if options.data is None else (Artefact("data set read", options.data),)
    console().print(_table(figures))
    return BenchmarkResult(
        made=made,
        counts={"videos": num_videos, "episodes": options.episodes, "rounds": options.rounds},
        seconds=time.monotonic() - started,
        notes=(*notes, *(f"{name.replace('_', ' ')}: {ratio:.2f}" for name, ratio in figures.ratios.items())),
        figures=asdict(figures),
        ratios=figures.ratios,
    )


def _measure(options: Options, root: str, videos: Sequence[str]) -> tuple[Figures, int]:
    manifest = read_manifest(root)
    size = options.size or manifest.size
    # Only the model's image size, detector and crop rule matter here.
    model = ModelConfig(size, (1,), (1,), detector=manifest.detector, crop=manifest.crop_rule)
    data = open_dataset(root, TrainConfig(model=model, num_shots=options.shots))
    # Never the same video twice in a step: frames that two episodes have in common would be read only once.
    per_step = min(len(data.videos), _MOST_EPISODES_PER_STEP)
    config = TrainConfig(model=model, num_shots=options.shots, episodes_per_step=per_step)
    steps = -(-options.episodes // per_step)
    per_round = steps * per_step
    methods: dict[str, tuple[Callable[[], object], int]] = {}
    with open_loader(config, data, threads=options.threads) as loader:
        frames = [_frames(loader, step) for step in range(steps)]
        jpegs = [[jpeg for jpeg, _ in data.dataset.read(step)] for step in frames]
        methods["decode"] = lambda: _decode(jpegs, options.threads), per_round
        methods["loader"] = lambda: _load(loader, steps), per_round
        if videos:
            detector, random = warm_detector(), np.random.default_rng(0)
            methods["videos"] = lambda: draw_episodes(videos, detector, options.shots + 1, size, random), len(videos)
        costs = measure_interleaved(methods, options.rounds)
        bytes_read = _bytes_read(lambda: _load(loader, steps)) if storage.is_local(root) else None
    figures = Figures(
        decode=costs["decode"],
        loader=costs["loader"],
        videos=costs.get("videos"),
        bytes_read=None if bytes_read is None else bytes_read // per_round,
        bytes_of_frames=sum(frame.jpeg_length for step in frames for frame in step) // per_round,
        machine={**describe_machine("opencv-python", "numpy"), "decoding_threads": str(options.threads)},
    )
    return figures, len(data.videos)


def _frames(loader: EpisodeLoader, step: int) -> list[FrameRef]:
    return [
        loader.videos[episode.video].frames[frame]
        for episode in loader.sampler.episodes(step)
        for frame in (episode.target, *episode.shots)
    ]


def _decode(jpegs: Sequence[Sequence[bytes]], threads: int) -> None:
    def decode(step: Sequence[bytes]) -> None:
        for jpeg in step:
            cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(decode, jpegs))


def _load(loader: EpisodeLoader, steps: int) -> None:
    for _ in loader.steps(0, steps):
        pass


def _bytes_read(act: Callable[[], None]) -> int | None:
    """Return the number of bytes that the process read during a call, from the kernel's counters."""
    counters = Path("/proc/self/io")
    if not counters.exists():
        return None

    def read() -> int:
        return int(counters.read_text().split()[1])

    before = read()
    act()
    return read() - before


def _table(figures: Figures) -> Table:
    table = Table(title=f"An episode, on {in_words(figures.machine)}", title_justify="left")
    for column in ("variant", "CPU ms", "wall ms", "episodes/s", "times decode"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for name, cost in (("decode", figures.decode), ("loader", figures.loader), ("videos", figures.videos)):
        if cost is not None:
            cells = (cost.cpu_s * 1e3, cost.wall_s * 1e3, 1 / cost.wall_s, cost.cpu_s / figures.decode.cpu_s)
            table.add_row(name, *(f"{cell:.2f}" for cell in cells))
    read = "not counted" if figures.bytes_read is None else f"{figures.bytes_read:,}"
    table.caption = f"bytes of an episode: {read} read, {figures.bytes_of_frames:,} in its frames"
    return table
