"""`sfumato bench loader`: what an episode costs, beside decoding its JPEGs alone and beside reading the films.

Three ways to the same K + 1 frames are measured in one run, in rounds that take turns, as medians:

    decode    OpenCV decodes the frames' JPEGs, which lie in memory already: no loader can cost less
    loader    EpisodeLoader as training uses it: draw, read by byte range, checksum, decode, resize, choose the warp
    films     as public reproductions do: decode the mp4 with OpenCV, draw K + 1 of its frames, find the landmarks
              on each of them, resize
"""

import tempfile
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
from pipelines.benchmarks.rounds import BenchOutcome, Cost, take_turns
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
    """Episodes a second from shards, beside pure JPEG decoding and beside films."""

    data: str | None = None
    """Data set to read; by default one is made of three clips of the catalogue."""
    films: tuple[str, ...] = ()
    """With --data: films to draw from in the reproductions' way; without any, that part is left out."""
    episodes: int = 160
    """Episodes of a round."""
    shots: int = 8
    """K: frames of an episode beside its target."""
    size: int | None = None
    """Side of the pictures handed to training, pixels; by default the data set's."""
    rounds: int = 5
    """Rounds, of which the median counts."""
    threads: int = 1
    """Threads that decode, for the first two."""

    def __post_init__(self) -> None:
        for name in ("episodes", "shots", "rounds", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Figures:
    """What was measured, per episode."""

    decode: Cost
    loader: Cost
    films: Cost | None
    bytes_read: int | None
    """What the kernel says was read; None where it does not say, or from a store."""
    bytes_of_frames: int
    """Length of the frames' JPEGs."""
    machine: Mapping[str, str]

    @property
    def ratios(self) -> dict[str, float]:
        """The loader's CPU seconds over those of pure decoding, and so on."""
        ratios = {"loader_over_decode": self.loader.cpu_s / self.decode.cpu_s}
        if self.films is not None:
            ratios["films_over_loader"] = self.films.cpu_s / self.loader.cpu_s
        if self.bytes_read is not None:
            ratios["bytes_over_frames"] = self.bytes_read / self.bytes_of_frames
        return ratios


def run(options: Options) -> CommandResult:
    """Measure.

    Raises:
        ValueError: no data set at `data`, or no video of it holds K + 1 frames.
        FileNotFoundError: one of the films does not exist.
    """
    started = time.monotonic()
    missing = next((film for film in options.films if not Path(film).is_file()), None)
    if missing is not None:
        raise FileNotFoundError(f"{missing} does not exist")
    with ExitStack() as stack:
        root, films = options.data, options.films
        if root is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sfumato-")))
            root, films = make_dataset(folder)
        figures, num_videos = _measure(options, root, films)
    notes = () if films else ("no films given: the reproductions' way was not measured",)
    made = () if options.data is None else (Artefact("data set read", options.data),)
    console().print(_table(figures))
    return BenchOutcome(
        made=made,
        counts={"videos": num_videos, "episodes": options.episodes, "rounds": options.rounds},
        seconds=time.monotonic() - started,
        notes=(*notes, *(f"{name.replace('_', ' ')}: {ratio:.2f}" for name, ratio in figures.ratios.items())),
        figures=asdict(figures),
        ratios=figures.ratios,
    )


def _measure(options: Options, root: str, films: Sequence[str]) -> tuple[Figures, int]:
    manifest = read_manifest(root)
    size = options.size or manifest.size
    # Of the model only its picture size, detector and crop matter here.
    model = ModelConfig(size, (1,), (1,), detector=manifest.detector, crop=manifest.crop_rule)
    data = open_dataset(root, TrainConfig(model=model, num_shots=options.shots))
    # Never the same video twice in a step: frames that two episodes share would be read once for both.
    per_step = min(len(data.videos), _MOST_EPISODES_PER_STEP)
    config = TrainConfig(model=model, num_shots=options.shots, episodes_per_step=per_step)
    steps = -(-options.episodes // per_step)
    per_round = steps * per_step
    ways: dict[str, tuple[Callable[[], object], int]] = {}
    with open_loader(config, data, threads=options.threads) as loader:
        frames = [_frames(loader, step) for step in range(steps)]
        jpegs = [[jpeg for jpeg, _ in data.dataset.read(step)] for step in frames]
        ways["decode"] = lambda: _decode(jpegs, options.threads), per_round
        ways["loader"] = lambda: _load(loader, steps), per_round
        if films:
            detector, random = warm_detector(), np.random.default_rng(0)
            ways["films"] = lambda: draw_episodes(films, detector, options.shots + 1, size, random), len(films)
        costs = take_turns(ways, options.rounds)
        bytes_read = _bytes_read(lambda: _load(loader, steps)) if storage.is_local(root) else None
    figures = Figures(
        decode=costs["decode"],
        loader=costs["loader"],
        films=costs.get("films"),
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
    """Bytes that the kernel handed this process while it acted."""
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
    for column in ("way", "CPU ms", "wall ms", "episodes/s", "times decode"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for name, cost in (("decode", figures.decode), ("loader", figures.loader), ("films", figures.films)):
        if cost is not None:
            cells = (cost.cpu_s * 1e3, cost.wall_s * 1e3, 1 / cost.wall_s, cost.cpu_s / figures.decode.cpu_s)
            table.add_row(name, *(f"{cell:.2f}" for cell in cells))
    read = "not counted" if figures.bytes_read is None else f"{figures.bytes_read:,}"
    table.caption = f"bytes of an episode: {read} read, {figures.bytes_of_frames:,} in its frames"
    return table
