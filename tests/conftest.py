"""What all tests share: array shapes and types checked at run time, and one Ray for those that need a real one."""

import os
from collections.abc import Iterator

import jaxtyping
import pytest

# Every annotated function of the three packages is checked when a test calls it. It has to come before their imports.
jaxtyping.install_import_hook(["pipelines", "training", "serving"], "beartype.beartype")

_RAY_CPUS = 4  # more than a small machine has: actors that mostly wait share its cores
_RAY_STORE_BYTES = 150 * 2**20


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A local Ray without dashboard, started once and shut down at the end; for tests marked slow."""
    # Otherwise a run under `uv run` would make a new environment for every worker.
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    import ray

    ray.init(
        num_cpus=_RAY_CPUS,
        include_dashboard=False,
        object_store_memory=_RAY_STORE_BYTES,
        log_to_driver=False,
    )
    yield
    ray.shutdown()
