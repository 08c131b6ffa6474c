"""Numbers of workers and their resources, and whether their machines live."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from serving.batch.pool import RayOptions
from serving.batch.ray_pool import is_up


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_workers": 0}, "--workers must be at least 1, got 0"),
        ({"num_workers": 2, "cpus_per_worker": -1.0}, "--cpus-per-worker must not be negative, got -1"),
        ({"num_workers": 2, "cpus_per_worker": float("nan")}, "--cpus-per-worker must not be negative, got nan"),
        ({"num_workers": 2, "gpus_per_worker": 1.5}, "--gpus-per-worker above 1 must be a whole number, got 1.5"),
    ],
)
def test_wrong_numbers_of_workers_and_resources_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RayOptions(**options)


def test_fractions_up_to_one_and_whole_numbers_are_accepted() -> None:
    assert RayOptions(3, gpus_per_worker=0.25, cpus_per_worker=2.0).gpus_per_worker == 0.25
    assert RayOptions(1, cpus_per_worker=0.0).cpus_per_worker == 0


def test_a_machine_that_does_not_answer_is_lost_although_ray_takes_it_for_alive() -> None:
    with socket.create_server(("127.0.0.1", 0)) as raylet:
        node = {"Alive": True, "NodeManagerAddress": "127.0.0.1", "NodeManagerPort": raylet.getsockname()[1]}
        assert is_up(node)
        assert not is_up(node | {"Alive": False})
    assert not is_up(node)
