"""`sfumato bench train`: the cost of a training step, relative to its networks and to public reproductions.

Measured on real episodes in interleaved rounds of one run:

    networks    only the step's forward and backward passes (training.benchmarks.networks_only)
    step        `Learner.step` on a batch that is already loaded
    few rows    the same with 1,000 identity rows instead of one per video of VoxCeleb2
    feed        read, decode, rasterise and warp a batch (in training, background threads do this)
    reference step, reference feed    the reproductions' step and data loading (training.benchmarks.reference_step)

and then the training loop, for the share of time that it waits for data. Ratios are of CPU seconds on a CPU, where
other processes affect wall-clock time, and of wall-clock time on a GPU.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from rich.table import Table

from pipelines import storage
from pipelines.benchmarks.rounds import BenchmarkResult, Cost, measure_rounds, median
from pipelines.cli import Artefact, CommandResult, console
from pipelines.dataset.manifest import read_manifest
from pipelines.machine import describe_machine, in_words
from training.benchmarks.clips import make_dataset
from training.benchmarks.step_variants import FEW_ROWS, ReferenceVariant, SfumatoStep, data_wait_shares, synchronised
from training.config import ExecutionConfig, TrainConfig
from training.device import choose_device
from training.episodes.source import DatasetSource, open_dataset, open_loader
from training.meta_training.plan.device_flops import count_flops, count_launches, count_waits, measure_flops, peak_bytes
from training.presets import PRESETS

VOXCELEB2_VIDEOS = 145_569


@dataclass(frozen=True)
class Options:
    """A training step, compared with its networks alone and with public reproductions."""

    preset: Literal["paper", "paper_ff", "small", "base", "demo"] = "small"
    """Configuration to measure."""
    data: str | None = None
    """Data set to train on; default: one made of three clips of the catalogue."""
    episodes: int = 4
    """Episodes per step; the presets' numbers are too slow for a benchmark on a CPU."""
    shots: int | None = None
    """K: number of shots of an episode, the target not included; default: the preset's."""
    rounds: int = 5
    """Number of rounds; median and minimum are reported. The training loop makes as many steps."""
    rows: int = VOXCELEB2_VIDEOS
    """Number of identity rows."""
    reference: bool = True
    """Measure the public reproductions' step too, which takes more than half of the time."""
    device: str = "auto"
    """Device to measure on: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Data type of activations in our step: `auto` is bfloat16 on a GPU and float32 on a CPU."""
    channels_last: bool = False
    """Use the channels-last memory format in our step."""
    compile: bool = False
    """Compile the networks of our step with torch.compile."""

    def __post_init__(self) -> None:
        for name in ("episodes", "shots", "rounds"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, got {value}")
        if self.rows < FEW_ROWS:
            raise ValueError(f"--rows must be at least {FEW_ROWS}, got {self.rows}")

    def config(self, data_root: str, device: torch.device) -> TrainConfig:
        """Return the preset adapted to the data set, the device and the options."""
        preset, manifest = PRESETS[self.preset](), read_manifest(data_root)
        bfloat16 = self.precision == "bfloat16" or (self.precision == "auto" and device.type == "cuda")
        return replace(
            preset,
            model=replace(preset.model, detector=manifest.detector, crop=manifest.crop_rule),
            num_shots=self.shots or preset.num_shots,
            episodes_per_step=self.episodes,
            engine=ExecutionConfig("bfloat16" if bfloat16 else "float32", self.channels_last, self.compile),
        )


@dataclass(frozen=True)
class Ratio:
    """Ratio of the cost of two variants in the same rounds."""

    median: float
    """Median of the rounds' ratios."""
    least: float
    """Ratio of the minimum seconds of both."""


@dataclass(frozen=True)
class Figures:
    """Measurements per step."""

    costs: Mapping[str, Sequence[Cost]]
    """Costs of each round, by variant."""
    ratios: Mapping[str, Ratio]
    images_per_second: Mapping[str, float]
    """Target frames per second of wall-clock time: our step, our step and feed, the reproductions' step and feed."""
    exchanged_bytes: Mapping[str, int]
    """Bytes that a worker sends to the others, with few rows and with many."""
    flops: int
    """Floating-point operations of our step."""
    launches: Mapping[str, int]
    """Operations of our step and of our feed, each at least one kernel on a GPU unless networks are compiled."""
    waits: Mapping[str, int | None]
    """How often each waits for the GPU; None on a CPU."""
    peak_bytes: int
    """Most memory of the GPU's tensors, of all variants; on a CPU, of the process."""
    matrix_share: float
    """Our step's floating-point rate relative to that of large matrix products in the same precision."""
    data_wait_shares: Sequence[float]
    """Share of each step of the loop spent waiting for data."""
    machine: Mapping[str, str]


def run(options: Options) -> CommandResult:
    """Run the benchmark.

    Raises:
        ValueError: there is no such device, no data set at `data`, or none of its videos has K + 1 frames.
        AssetError: a clip or the perceptual network's weights cannot be downloaded.
    """
    begin = time.monotonic()
    device = choose_device(options.device)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(storage.ScratchFolder()))
        root = options.data or make_dataset(folder)[0]
        config = options.config(root, device)
        data = open_dataset(root, config)
        figures = _measure(options, config, data, device, folder / "files")
    console().print(_table(figures))
    ratios = {name: ratio.least for name, ratio in figures.ratios.items()}
    return BenchmarkResult(
        made=() if options.data is None else (Artefact("data set read", options.data),),
        counts={"videos": len(data.videos), "episodes": config.episodes_per_step, "rounds": options.rounds},
        seconds=time.monotonic() - begin,
        notes=tuple(_notes(figures)),
        figures=asdict(figures),
        ratios={**ratios, "data_wait": statistics.median(figures.data_wait_shares)},
    )


def _measure(options: Options, config: TrainConfig, data: DatasetSource, device: torch.device, folder: Path) -> Figures:
    with open_loader(config, data, pinned=device.type == "cuda") as loader:
        ours = SfumatoStep(config, data, loader, options.rows, device)
        acts: dict[str, Callable[[], object]] = {
            "networks": ours.networks,
            "step": lambda: ours.step(ours.many),
            "few rows": lambda: ours.step(ours.few),
            "feed": ours.feed,
        }
        if options.reference:
            reference = ReferenceVariant(config, data, options.rows, device, folder)
            acts |= {"reference step": reference.step, "reference feed": reference.feed}
        costs = measure_rounds({name: (synchronised(act, device), 1) for name, act in acts.items()}, options.rounds)
        exchanged = {"few rows": ours.step(ours.few), "many rows": ours.step(ours.many)}
        flops = count_flops(lambda: ours.step(ours.many))
        launches = {"step": count_launches(lambda: ours.step(ours.many)), "feed": count_launches(ours.feed)}
        waits = {"step": count_waits(lambda: ours.step(ours.many), device), "feed": count_waits(ours.feed, device)}
    used = _seconds(costs, device)
    rate = measure_flops(device, config.engine.precision)
    return Figures(
        costs=costs,
        ratios=_ratios(used),
        images_per_second=_images_per_second(costs, config.episodes_per_step),
        exchanged_bytes=exchanged,
        flops=flops,
        launches=launches,
        waits=waits,
        peak_bytes=peak_bytes(device),
        matrix_share=flops / min(used["step"]) / rate,
        data_wait_shares=data_wait_shares(config, data, options.rounds, device),
        machine=_machine(options, config, device),
    )


def _seconds(costs: Mapping[str, Sequence[Cost]], device: torch.device) -> dict[str, list[float]]:
    """Return seconds by variant and round: CPU time on a CPU, wall-clock time on a GPU."""
    by_clock = device.type != "cpu"
    return {name: [cost.wall_s if by_clock else cost.cpu_s for cost in found] for name, found in costs.items()}


def _ratios(seconds: Mapping[str, Sequence[float]]) -> dict[str, Ratio]:
    pairs = {
        "step_over_networks": (["step"], ["networks"]),
        "many_over_few_rows": (["step"], ["few rows"]),
        "reference_over_ours": (["reference step", "reference feed"], ["step", "feed"]),
        "reference_step_over_step": (["reference step"], ["step"]),
    }
    return {
        name: _ratio([seconds[variant] for variant in above], [seconds[variant] for variant in below])
        for name, (above, below) in pairs.items()
        if all(variant in seconds for variant in above)
    }


def _ratio(above: Sequence[Sequence[float]], below: Sequence[Sequence[float]]) -> Ratio:
    """Return the ratio of two sums of variants."""
    rounds = [sum(a) / sum(b) for a, b in zip(zip(*above, strict=True), zip(*below, strict=True), strict=True)]
    return Ratio(statistics.median(rounds), sum(map(min, above)) / sum(map(min, below)))


def _images_per_second(costs: Mapping[str, Sequence[Cost]], episodes: int) -> dict[str, float]:
    seconds = {name: median(found).wall_s for name, found in costs.items()}
    sums = {"step": ("step",), "step and feed": ("step", "feed"), "reference": ("reference step", "reference feed")}
    return {
        name: episodes / sum(seconds[variant] for variant in variants)
        for name, variants in sums.items()
        if all(variant in seconds for variant in variants)
    }


def _machine(options: Options, config: TrainConfig, device: torch.device) -> dict[str, str]:
    name = {"device": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}
    return {
        **describe_machine("torch"),
        **name,
        "torch_threads": str(torch.get_num_threads()),
        "preset": options.preset,
        "precision": config.engine.precision,
        "channels_last": str(options.channels_last).lower(),
        "rows": f"{options.rows:,}",
    }


def _notes(figures: Figures) -> list[str]:
    few, many = figures.exchanged_bytes["few rows"], figures.exchanged_bytes["many rows"]
    return [
        *(
            f"{name.replace('_', ' ')}: {ratio.median:.3f} (median), {ratio.least:.3f} (least)"
            for name, ratio in figures.ratios.items()
        ),
        f"bytes exchanged: {few:,} with {FEW_ROWS:,} rows, {many:,} with {figures.machine['rows']}",
        f"waited for data: {statistics.median(figures.data_wait_shares):.2%} of a step",
        f"share of the measured matrix rate: {figures.matrix_share:.1%}",
        f"operations: {figures.launches['step']:,} a step, {figures.launches['feed']:,} a batch",
        *(f"waits for the GPU in a {name}: {number}" for name, number in figures.waits.items() if number is not None),
        f"most memory: {figures.peak_bytes / 1e6:,.0f} MB",
    ]


def _table(figures: Figures) -> Table:
    table = Table(title=f"A step, on {in_words(figures.machine)}", title_justify="left")
    for column in ("variant", "CPU s (median)", "CPU s (least)", "wall s (median)", "wall s (least)"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for name, found in figures.costs.items():
        cpu, wall = [cost.cpu_s for cost in found], [cost.wall_s for cost in found]
        cells = (statistics.median(cpu), min(cpu), statistics.median(wall), min(wall))
        table.add_row(name, *(f"{cell:.3f}" for cell in cells))
    images = ", ".join(f"{name} {rate:.2f}" for name, rate in figures.images_per_second.items())
    table.caption = f"images a second: {images}\n{figures.flops / 1e12:.3f} TFLOP a step"
    table.caption_justify = "left"
    return table
