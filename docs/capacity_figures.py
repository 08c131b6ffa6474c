"""What docs/capacity.md is computed from: figures that were measured here, data sheets, and list prices.

Set prices of your own in `PRICES`, then `python docs/capacity_page.py`.
"""

from dataclasses import dataclass

from training.meta_training.plan.counted_step import StepCounts


@dataclass(frozen=True)
class Figure:
    """A number, its unit and where it stands."""

    value: float
    unit: str
    place: str


@dataclass(frozen=True)
class Price:
    """A list price in US dollars in us-central1, without discounts and taxes."""

    dollars: float
    unit: str
    date: str
    source: str


_OPENED = "experiments.md#2026-11-24-opening-a-data-set-of-voxceleb2s-size"
_PERFORMANCE, _EXPERIMENTS = "explanation/performance.md", "experiments.md"

CLIPS = Figure(1_128_246, "clips of VoxCeleb2", f"{_PERFORMANCE}#preprocessing")
VIDEOS = Figure(145_569, "videos of VoxCeleb2", "reference/configuration.md#training")
PREPROCESS = Figure(0.690, "s of a core a clip of 7.8 s", f"{_PERFORMANCE}#preprocessing")
PLANNING = Figure(9.8e-5, "s of a core a clip, to plan", f"{_EXPERIMENTS}#2026-11-29-planning-with-layouts")
OPENING = Figure(14.5 / 16.95e6, "s a frame, to open a data set", _OPENED)
INDEX = Figure(1.0e9 / 16.95e6, "bytes a frame of its index", _OPENED)
RENDER = Figure(0.0873, "s of a core a frame of 512 × 288", f"{_PERFORMANCE}#rendering")
REQUESTS = Figure(4.5, "requests an episode with `--shuffle videos`", f"{_PERFORMANCE}#reading-shards")
BLOCK = Figure(16e6, "bytes a request with `--shuffle shards`", f"{_PERFORMANCE}#reading-shards")
FIGURES = (CLIPS, VIDEOS, PREPROCESS, PLANNING, OPENING, INDEX, RENDER, REQUESTS, BLOCK)

# Assumed, not measured.
FRAMES_PER_CLIP = 16
FILES_PER_SHARD = 3  # the shard, its index, its report
FILM_FRAMES = 250  # ten seconds at 25 frames a second
NIGHT_HOURS = 10
CHECKPOINTS_KEPT = 2
READS_PER_SECOND = 5_000
"""That a bucket takes at first (https://cloud.google.com/storage/docs/request-rate); it grows within minutes."""
LIST_PAGE = 1_000  # objects a listing request returns

GPU_MACHINE, CARDS, HOST_MEMORY = "a2-ultragpu-8g", 8, 1360 * 2**30
CPU_MACHINE, CORES = "e2-standard-4", 4

_MACHINES = "https://github.com/Cyclenerd/google-cloud-pricing-cost-calculator (pricing.yml)"
_CPU_MACHINES = "https://github.com/doitintl/gcpinstances.info (public/data/pricing.json)"
_STORAGE = "https://cloud.google.com/storage/pricing"
PRICES = {
    CPU_MACHINE: Price(0.134023, "hour", "2026-05-23", _CPU_MACHINES),
    GPU_MACHINE: Price(40.5503831, "hour", "2025-03-06", _MACHINES),
    f"{GPU_MACHINE}, spot": Price(16.2197468, "hour", "2025-03-06", _MACHINES),
    "Standard storage": Price(0.000027397, "GiB and hour", "2026-09-20", _STORAGE),
    "Class A operations (write, list)": Price(0.005, "1,000", "2026-09-20", _STORAGE),
    "Class B operations (read)": Price(0.0004, "1,000", "2026-09-20", _STORAGE),
}

# `sfumato meta-train PRESET -o run --plan --json`, plan.counts.
COUNTS = {
    "paper": StepCounts(
        parameters={"embedder": 14_907_265, "generator": 38_081_733, "discriminator": 19_627_394},
        buffer_bytes={"embedder": 158_704, "generator": 395_652, "discriminator": 199_664},
        loss_network_bytes=39_980_312,
        flops=1_121_001_406_464,
        activation_bytes=1_364_172_392,
        launches=4_312,
        gradient_bytes=368_975_144,
        row_bytes=6_168,
    ),
    "small": StepCounts(
        parameters={"embedder": 2_483_393, "generator": 9_582_089, "discriminator": 3_663_810},
        buffer_bytes={"embedder": 56_944, "generator": 200_412, "discriminator": 77_424},
        loss_network_bytes=62_410_356,
        flops=103_243_771_904,
        activation_bytes=228_980_624,
        launches=4_813,
        gradient_bytes=77_572_408,
        row_bytes=3_096,
    ),
}
