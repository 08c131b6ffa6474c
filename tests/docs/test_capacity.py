"""The page of capacity: what its script writes, and numbers worked out by hand."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from training.models.discriminator import Discriminator
from training.models.embedder import Embedder
from training.models.generator import Generator
from training.presets import PRESETS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def capacity() -> ModuleType:
    """docs/capacity_page.py."""
    spec = importlib.util.spec_from_file_location("docs_capacity_page", DOCS / "capacity_page.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_its_script_writes(capacity: ModuleType) -> None:
    assert (DOCS / "capacity.md").read_text() == capacity.page()


def test_preprocessing_by_hand(capacity: ModuleType) -> None:
    # 1,128,246 clips of .69 s are 216.25 core hours: .5406 h of 100 machines of four.
    row = capacity.preprocessing(1)
    assert row.hours == pytest.approx((0.54062, 0.54062), rel=1e-4)
    # 16 pictures of 24 KiB a clip, 341 clips in 128 MiB: 3,309 shards with three files each.
    assert row.stored == 1_128_246 * 393_216
    assert capacity.num_shards(1) == 3_309
    assert row.requests == 1_128_246 + 9_927
    # 54.062 machine hours at .134023, 9,927 writes at 5 and 1,128,246 reads at .4 dollars a million.
    assert row.dollars[0] == pytest.approx(7.2456 + 0.0496 + 0.4513, abs=1e-3)


def test_training_by_hand(capacity: ModuleType) -> None:
    # 227,451 steps of six episodes a card: 1.121 TFLOP each at 15 % of 312 TFLOP/s, and .00215 s for the exchange,
    # which in the best case is hidden behind the 40 %.
    best, worst = capacity.training("paper", 1).hours
    assert worst == pytest.approx(227_451 * (6 * 1.121 / 46.8 + 0.00215) / 3600, rel=1e-3)
    assert best == pytest.approx(227_451 * (6 * 1.121 / 124.8) / 3600, rel=1e-3)
    assert capacity.training("paper", 100).hours[0] == pytest.approx(100 * best, rel=1e-3)
    assert capacity.training("paper", 1).stored == pytest.approx(2 * 1.68e9, rel=2e-3)


def test_the_memory_of_a_host_by_hand(capacity: ModuleType) -> None:
    # Eight workers in 1,360 GiB, with one index of 1.065 GB and two snapshots of 1.681 GB each, .597 GB of them rows.
    growing, fixed = 1.065 + 16 * 0.5974, 16 * 1.0836
    (limit,) = [each for each in capacity.limits() if each.name == "memory of a host, `paper`"]
    assert limit.met_at == pytest.approx((1_460.3 - fixed) / growing, rel=1e-3)


def test_the_first_limit_is_the_number_of_objects(capacity: ModuleType) -> None:
    # 3,309 shards of three files each: a million at 100.7 times VoxCeleb2.
    assert capacity.first_limit(100) is None
    assert capacity.first_limit(101).name == "reports and other objects"


def test_prices_have_a_date_and_a_source(capacity: ModuleType) -> None:
    for price in sys.modules["capacity_figures"].PRICES.values():
        assert price.date[:3] == "202"
        assert price.source.startswith("https://")


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["paper", "small"])
def test_the_sizes_of_networks_are_those_of_the_code(capacity: ModuleType, preset: str) -> None:
    config, counts = PRESETS[preset](), sys.modules["capacity_figures"].COUNTS[preset]
    networks = {kind.__name__.lower(): kind(config.model) for kind in (Embedder, Generator, Discriminator)}
    parameters = {name: sum(each.numel() for each in network.parameters()) for name, network in networks.items()}
    assert counts.parameters == parameters
    assert counts.buffer_bytes == {
        name: sum(each.numel() * each.element_size() for each in network.buffers())
        for name, network in networks.items()
    }
    # Gradients of E and G once, of D in both of its phases; of a row K + 1 times its size, with a 64-bit index each.
    assert counts.gradient_bytes == 4 * (sum(parameters.values()) + parameters["discriminator"])
    assert counts.row_bytes == 3 * (8 + 4 * config.model.embedding_size)


@pytest.mark.long  # operations without data run in Python: six seconds of a core each
def test_the_counts_are_those_of_the_code(capacity: ModuleType) -> None:
    """The remedy, when a step has changed: copy plan.counts of `meta-train PRESET -o run --plan --json` to
    docs/capacity_figures.py, then run docs/capacity_page.py."""
    # In a process without checks of types at run time, which are operations too.
    code = """
import sys
sys.path.insert(0, "docs")
from capacity_figures import COUNTS
from training.meta_training.plan.counted_step import count_step
from training.presets import PRESETS
assert len(COUNTS) == 2
for preset, counts in COUNTS.items():
    assert count_step(PRESETS[preset]()) == counts, preset
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=DOCS.parent)
