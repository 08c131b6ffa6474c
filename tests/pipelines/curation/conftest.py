"""A small data set for the tests of validation, and the import path of `damage`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.dataset.schema import ClipKey

sys.path.insert(0, str(Path(__file__).parent))  # for `import damage`

Make = Callable[..., Any]


@pytest.fixture
def shards(make_row: Make, make_reject: Make, small_shard: Make) -> list[Any]:
    """Three shards: ann's and bob's videos with rejects; one clip tried again; cat held out."""
    return [
        small_shard(
            (make_row("ann", "v1", "a", 9), make_row("ann", "v1", "b", 16), make_row("bob", "v1", "a", 12)),
            (make_reject("bob", "v2", "a", "internal"), make_reject("bob", "v3", "a", "no_face", frames_seen=8)),
        ),
        small_shard((make_row("cat", "v1", "a", 10),), split="val"),
        small_shard((make_row("bob", "v2", "a", 11),), attempts={ClipKey("bob", "v2", "a"): 2}),
    ]


@pytest.fixture
def root(tmp_path: Path, shards: list[Any], make_dataset: Make) -> Path:
    make_dataset(str(tmp_path / "set"), shards)
    return tmp_path / "set"
