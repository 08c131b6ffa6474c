"""Starts on a cluster: what is told when there is no room. `test_two_nodes` has a real one."""

from __future__ import annotations

import pytest

from serving.deploy import is_placed, wait_for_resources
from serving.service.config import ServiceConfig

_CONFIG = ServiceConfig("m", "d", cpus_per_worker=1.5, num_front_ends=2)
_FOUR = {"CPU": 4.0, "memory": 1.0}


@pytest.mark.parametrize(
    ("free", "placed"),
    [
        ({"CPU": 0.8}, True),  # two workers and two front ends have theirs
        ({"CPU": 2.3}, False),  # a worker has none
        ({"CPU": 4.0}, False),
        ({}, True),
    ],
)
def test_a_slow_start_is_no_lack_of_room(free: dict[str, float], placed: bool) -> None:
    assert is_placed(_CONFIG, _FOUR, free) is placed


def test_gpus_count_too() -> None:
    config = ServiceConfig("m", "d", num_gpus=0.5)
    assert is_placed(config, {"CPU": 8.0, "GPU": 1.0}, {"CPU": 4.0})
    assert not is_placed(config, {"CPU": 8.0, "GPU": 1.0}, {"CPU": 4.0, "GPU": 0.5})


def test_machines_that_join_are_waited_for_and_a_cluster_that_is_too_small_is_told() -> None:
    growing = iter([{"CPU": 2.0}, {"CPU": 4.0}])
    wait_for_resources(_CONFIG, lambda: next(growing))
    with pytest.raises(ValueError, match=r"2 workers need 3\.2 CPUs, there are 2: give a smaller --cpus-per-worker"):
        wait_for_resources(_CONFIG, lambda: {"CPU": 2.0}, seconds=0.0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_service_that_never_joined_its_cluster_deletes_nothing_on_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray Serve's own functions join any cluster that they find on this machine."""
    from ray import serve

    from serving import deploy

    deleted: list[str] = []
    monkeypatch.setattr(serve, "delete", deleted.append)
    deploy._stop()
    assert not deleted
