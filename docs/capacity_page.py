"""Write docs/capacity.md: machines, hours, storage, requests and money for VoxCeleb2 and a hundred times that.

`python docs/capacity_page.py`; the numbers come from docs/capacity_figures.py.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # run by its path

import capacity_figures as f  # noqa: E402
from reference_pages import table  # noqa: E402

from pipelines.planning.plan import PlanConfig  # noqa: E402
from training.meta_training.plan.cards import CARDS, LAUNCH_SECONDS, UTILISATION  # noqa: E402
from training.meta_training.plan.report import OnCards, on_cards  # noqa: E402
from training.meta_training.plan.sizes import sizes_of  # noqa: E402
from training.presets import PRESETS  # noqa: E402

_CARD = "A100"
_SCALES = (1, 100)
_MACHINES = {1: 100, 100: 1_000}  # that preprocess


@dataclass(frozen=True)
class Row:
    """What a stage needs at one scale; money only where there is a price."""

    stage: str
    machines: str
    hours: tuple[float, float]
    stored: float | None
    """Bytes; None: not measured."""
    requests: float
    dollars: tuple[float, float] | None


def dollars(name: str, amount: float) -> float:
    """The price of an amount, in the unit of the price."""
    return f.PRICES[name].dollars * amount


def storage_bytes(scale: int) -> float:
    """Shards, by the size that the plan predicts for a clip."""
    return scale * f.CLIPS.value * PlanConfig().clip_bytes


def num_shards(scale: int) -> int:
    """Shards, each of as many whole clips as fit."""
    plan = PlanConfig()
    return math.ceil(scale * f.CLIPS.value / (plan.shard_bytes // plan.clip_bytes))


def planning(scale: int) -> Row:
    """One core lists a tree and cuts it into shards."""
    hours = scale * f.CLIPS.value * f.PLANNING.value / 3600
    requests = scale * f.CLIPS.value / f.LIST_PAGE
    money = dollars(f.CPU_MACHINE, hours) + dollars("Class A operations (write, list)", requests / 1000)
    return Row("planning", f"1 {f.CPU_MACHINE}", (hours, hours), None, requests, (money, money))


def preprocessing(scale: int) -> Row:
    """A machine's cores take one clip after another."""
    machines = _MACHINES[scale]
    hours = scale * f.CLIPS.value * f.PREPROCESS.value / 3600 / (machines * f.CORES)
    written, read = num_shards(scale) * f.FILES_PER_SHARD, scale * f.CLIPS.value
    money = dollars(f.CPU_MACHINE, machines * hours)
    money += dollars("Class A operations (write, list)", written / 1000)
    money += dollars("Class B operations (read)", read / 1000)
    names, stored = f"{machines:,} {f.CPU_MACHINE}", storage_bytes(scale)
    return Row("preprocessing", names, (hours, hours), stored, written + read, (money, money))


def on_machine(preset: str, scale: int) -> OnCards:
    """The preset on one machine, with as many epochs at each scale."""
    config = PRESETS[preset]()
    config = replace(config, num_steps=scale * config.num_steps)
    return on_cards(config, f.COUNTS[preset], round(scale * f.VIDEOS.value), _CARD, f.CARDS)


def training(preset: str, scale: int) -> Row:
    """One machine of eight cards reads whole shards."""
    config, plan = PRESETS[preset](), on_machine(preset, scale)
    epochs = config.num_steps * config.episodes_per_step / f.VIDEOS.value
    requests = epochs * storage_bytes(scale) / f.BLOCK.value
    reading = dollars("Class B operations (read)", requests / 1000)
    best, worst = (dollars(f.GPU_MACHINE, hours) + reading for hours in plan.hours)
    stored = f.CHECKPOINTS_KEPT * sizes_of(config, f.COUNTS[preset], round(scale * f.VIDEOS.value), f.CARDS).checkpoint
    name = f"training `{preset}`, {epochs:.0f} epochs"
    return Row(name, f"1 {f.GPU_MACHINE}", plan.hours, stored, requests, (best, worst))


def films(scale: int) -> Row:
    """1,000 portraits with three drivers each, in a night."""
    cores = scale * 3_000 * f.FILM_FRAMES * f.RENDER.value / 3600
    machines = math.ceil(cores / f.CORES / f.NIGHT_HOURS)
    hours = cores / f.CORES / machines
    requests = scale * 2 * 3_000  # a film and its sidecar
    money = dollars(f.CPU_MACHINE, machines * hours) + dollars("Class A operations (write, list)", requests / 1000)
    name = f"{1_000 * scale:,} portraits × 3 drivers"
    return Row(name, f"{machines:,} {f.CPU_MACHINE}", (hours, hours), None, requests, (money, money))


def service(scale: int) -> Row:
    """100 films an hour, for a day of 24 hours."""
    machines = math.ceil(scale * 100 * f.FILM_FRAMES * f.RENDER.value / 3600 / f.CORES)
    money = dollars(f.CPU_MACHINE, machines * 24)
    name = f"service, {100 * scale:,} films an hour, a day"
    return Row(name, f"{machines:,} {f.CPU_MACHINE}", (24, 24), None, scale * 100 * 24 * 2, (money, money))


@dataclass(frozen=True)
class Limit:
    """Something that grows with the data and its bound."""

    name: str
    fixed: float
    per_scale: float
    bound: float
    unit: str
    why: str

    def at(self, scale: float) -> float:
        """Its size at a multiple of VoxCeleb2."""
        return self.fixed + scale * self.per_scale

    @property
    def met_at(self) -> float:
        """The multiple of VoxCeleb2 at which the bound is met."""
        return (self.bound - self.fixed) / self.per_scale


def limits() -> list[Limit]:
    """Limits in the order in which growing data meets them."""
    num_frames = f.CLIPS.value * f.FRAMES_PER_CLIP
    index, host = f.INDEX.value * num_frames / 1e9, f.HOST_MEMORY / 1e9
    opening, objects = f.OPENING.value * num_frames / 60, num_shards(1) * f.FILES_PER_SHARD / 1e6
    found = [
        Limit("frame index of a machine", 0, index, host, "GB", "its memory"),
        Limit("plan, one core", 0, planning(1).hours[0], 24, "h", "a day"),
        Limit("opening the data set", 0, opening, 60, "min", "an hour before the first step"),
        Limit("reports and other objects", 0, objects, 1, "million", "a thousand requests to list them"),
    ]
    for preset in f.COUNTS:
        config = PRESETS[preset]()
        config = replace(config, engine=replace(config.engine, precision="bfloat16"))
        sizes = sizes_of(config, f.COUNTS[preset], round(f.VIDEOS.value), f.CARDS)
        rows, others = sizes.rows / 1e9, (sizes.device - sizes.rows) / 1e9
        room = CARDS[_CARD].memory / 1e9
        found.append(
            Limit(f"memory of a card, `{preset}`", others, rows, room, "GB", "identity rows, all on each card")
        )
        copies = 2 * f.CARDS  # the old and the new snapshot of each worker
        fixed, growing = copies * (sizes.snapshot / 1e9 - rows), copies * rows + index
        why = "one index, and two snapshots of each worker"
        found.append(Limit(f"memory of a host, `{preset}`", fixed, growing, host, "GB", why))
    return sorted(found, key=lambda limit: limit.met_at)


def first_limit(scale: int) -> Limit | None:
    """The first limit that data of this scale has met."""
    met = [limit for limit in limits() if limit.met_at <= scale]
    return met[0] if met else None


def page() -> str:
    """The page."""
    low, high = sorted(UTILISATION)
    fast, slow = (seconds * 1e6 for seconds in LAUNCH_SECONDS)
    text = [
        "# Capacity",
        f"Machines, hours, storage, requests and money for VoxCeleb2 ({f.CLIPS.value:,} clips of {f.VIDEOS.value:,} "
        "videos, 7.8 s on average) and a hundred times that, on paper. `python docs/capacity_page.py` computes this "
        "page from figures measured [on two CPU cores](explanation/performance.md), from data sheets and list prices. "
        "For a run of your own: `sfumato meta-train PRESET --data SET -o RUN --plan`.",
        f"Nothing was measured on a GPU or in a cloud. Hours on cards are an estimate: {low:.0%} to {high:.0%} of the "
        f"data sheet's rate (assumed), at least {fast:.0f} to {slow:.0f} µs an operation (assumed), and gradients that "
        f"are exchanged after the step's work. The card: {CARDS[_CARD].source}.",
        *(part for scale in _SCALES for part in _at(scale)),
        "A core is a virtual one of the machine type. Training makes as many epochs at both scales, and keeps "
        f"{f.CHECKPOINTS_KEPT} checkpoints. A clip is read by one request. Films are 512 × 288 pixels, {f.FILM_FRAMES} "
        f"frames, T = 1, without fine-tuning; a night has {f.NIGHT_HOURS} hours. Empty: not measured.",
        "Money is the machines' on-demand price and requests; Dataflow bills its workers by rates of its own, for "
        "which no dated source was found. Sources, egress and disks are left out. Spot costs "
        f"{_spot():.0%} of the price on {f.GPU_MACHINE}.",
        "## Limits",
        "What grows with the data, and at how many times VoxCeleb2 it meets its bound. Bounds of time and of objects "
        "are chosen:",
        table(("limit", "at 1", "at 100", "bound", "met at", "because of"), map(_limit_cells, limits())),
        _requests(),
        "The graph of a Dataflow job does not grow: workers read the plan in parts "
        "([Run on a cluster](how-to/cluster.md)).",
        "## Figures",
        table(("figure", "unit", "measured in"), map(_figure_cells, f.FIGURES)),
        "Sizes of networks, operations and activations: `--plan --json`. Prices in us-central1, without discounts; set "
        "others in `docs/capacity_figures.py`:",
        table(
            ("price", "US dollars", "per", "date", "source"),
            [(name, f"{each.dollars:g}", each.unit, each.date, each.source) for name, each in f.PRICES.items()],
        ),
    ]
    return "\n\n".join(text) + "\n"


def _at(scale: int) -> list[str]:
    """The part of the page about one scale."""
    rows = [planning, preprocessing, lambda s: training("paper", s), lambda s: training("small", s), films, service]
    month = dollars("Standard storage", storage_bytes(scale) / 2**30 * 730)
    met = first_limit(scale)
    limit = f"First limit: {met.name}, {_short(met.at(scale))} {met.unit} of {_short(met.bound)}." if met else ""
    return [
        "## VoxCeleb2" if scale == 1 else f"## {scale} times VoxCeleb2",
        table(
            ("stage", "machines", "hours", "stored, GB", "requests", "US dollars"), [_cells(row(scale)) for row in rows]
        ),
        f"The data set has {num_shards(scale):,} shards and costs {_short(month)} dollars a month. "
        + (limit or f"No limit is met; the first, {limits()[0].name}, is met at {_short(limits()[0].met_at)} times."),
    ]


def _requests() -> str:
    """Requests a second of training with `--shuffle videos`, which do not depend on the amount of data."""
    plan, episodes = on_machine("paper", 1), PRESETS["paper"]().episodes_per_step
    least, most = (episodes / seconds * f.REQUESTS.value for seconds in reversed(plan.step_seconds))
    return (
        f"Requests a second do not grow with the data: with `--shuffle videos`, `paper` on {f.CARDS} cards makes "
        f"{_short(least)} to {_short(most)}; a bucket takes {f.READS_PER_SECOND:,} at first "
        "([Cloud Storage](https://cloud.google.com/storage/docs/request-rate)). From a store use `--shuffle shards`."
    )


def _spot() -> float:
    return dollars(f"{f.GPU_MACHINE}, spot", 1) / dollars(f.GPU_MACHINE, 1)


def _limit_cells(limit: Limit) -> tuple[str, ...]:
    sizes = (f"{_short(size)} {limit.unit}" for size in (*map(limit.at, _SCALES), limit.bound))
    return limit.name, *sizes, f"{_short(limit.met_at)} times", limit.why


def _figure_cells(figure: f.Figure) -> tuple[str, str, str]:
    value = f"{figure.value:,.0f}" if figure.value >= 1000 else _short(figure.value)
    name = figure.place.partition("#")[0].rpartition("/")[2].removesuffix(".md")
    return value, figure.unit, f"[{name}]({figure.place})"


def _cells(row: Row) -> tuple[str, ...]:
    money = "" if row.dollars is None else _range(row.dollars)
    stored = "" if row.stored is None else _short(row.stored / 1e9)
    return row.stage, row.machines, _range(row.hours), stored, _short(row.requests), money


def _range(values: tuple[float, float]) -> str:
    low, high = map(_short, values)
    return low if low == high else f"{low} to {high}"


def _short(number: float) -> str:
    """Three digits at most, or a whole number."""
    if number >= 100:
        return f"{float(f'{number:.3g}'):,.0f}"
    return f"{number:.3g}" if number >= 1e-3 else f"{number:.1e}"


if __name__ == "__main__":
    (HERE / "capacity.md").write_text(page())
