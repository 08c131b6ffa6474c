"""Requests that are made up from the interface's own description (schemathesis): none ends in a fault of the server."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

_SECONDS = 12.0  # of this process, whatever else the machine does
_EXAMPLES = 3


async def draw_nothing(_avatar_id: str, _sliders: Mapping[str, float], _max_size: int) -> bytes:
    return b""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # schemathesis' own
def test_no_made_up_request_is_a_fault_of_the_server(client: Any) -> None:
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis import GenerationMode

    from serving.service.http.api import create_api

    avatar_id = client.ready_avatar()
    access = replace(client.service.access, open=True, api_key=None)
    client.service = replace(client.service, access=access, draw_still=draw_nothing)
    known = {"avatar_id": avatar_id, "job_id": client.service.jobs.of_avatar(avatar_id)[0], "driver_id": "builtin:talk"}
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_api(client.service))
    operations = [found.ok() for found in schema.get_all_operations()]
    deadline = time.process_time() + _SECONDS
    statuses: dict[str, set[int]] = {operation.label: set() for operation in operations}
    limits = settings(
        max_examples=_EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    sent = 0
    # Deletions last: the others need what they delete.
    for operation in sorted(operations, key=lambda each: each.method.upper() == "DELETE"):
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @limits
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case: Any) -> None:
                nonlocal sent
                if time.process_time() > deadline:
                    return
                sent += 1
                if sent % 3 and case.path_parameters:  # otherwise nearly all would be unknown ids
                    case.path_parameters = {name: known[name] for name in case.path_parameters}
                reply = case.call()
                assert reply.status_code < 500, (case.operation.label, reply.status_code, reply.content[:300])
                statuses[case.operation.label].add(reply.status_code)

            try:
                check()
            except Exception as error:
                if type(error).__name__ == "Unsatisfiable":  # nothing to be wrong, such as in /healthz
                    continue
                raise
    assert sent > 60
    assert sum(map(bool, statuses.values())) > 18
    assert {200, 404, 422} <= set.union(*statuses.values())
