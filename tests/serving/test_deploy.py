"""What Ray Serve says about replicas that do not start."""

from __future__ import annotations

import pytest

from serving.deploy import has_room

_MESSAGE = (
    "Deployment 'stills' in application 'sfumato' has 1 replicas that have taken more than 30s to be scheduled. This"
    " may be due to waiting for the cluster to auto-scale or for a runtime environment to be installed. Resources"
    " required for each replica: {}, total resources available: {}. Use `ray status` for more details."
)


@pytest.mark.parametrize(
    ("needed", "free", "expected"),
    [
        ('{"CPU": 0.1}', '{"CPU": 0.8}', True),
        ('{"CPU": 1.0}', '{"CPU": 0.8}', False),
        ('{"CPU": 1.0, "GPU": 0.5}', '{"CPU": 2.0}', False),
        ('{"CPU": 1.0, "GPU": 0.5}', '{"CPU": 2.0, "GPU": 1.0}', True),
    ],
)
def test_a_slow_start_is_no_lack_of_room(needed: str, free: str, *, expected: bool) -> None:
    assert has_room(_MESSAGE.format(needed, free)) is expected


def test_another_message_tells_nothing() -> None:
    assert not has_room("")
