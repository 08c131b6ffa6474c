"""The deployment `stills`: draws single pictures while clients wait, in a process that can be killed.

Work without a place in the jobs table: a picture takes a fraction of a second, and one that is late is of no use.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from serving.service.config import ServiceConfig
from serving.service.errors import BadInput, Unavailable
from serving.service.loopback import keep_serve_on_loopback
from serving.service.state.requests import StillRequest
from serving.service.work.lease import JobOrder, Lease
from serving.service.work.process import ChildDied, JobFailed, JobProcess

log = logging.getLogger(__name__)

DrawStill = Callable[[str, Mapping[str, float], int], Awaitable[bytes]]
"""(avatar id, sliders, maximum size in pixels) -> JPEG; raises ServiceError."""
STILL_S = 20.0
"""A picture that takes longer is given up, and its process is replaced."""
_LATE = "the picture could not be drawn; try again"


@dataclass(frozen=True)
class StillAnswer:
    """A picture as JPEG, or why there is none."""

    jpeg: bytes = b""
    error: str = ""
    is_input: bool = False
    """Whether the error is about the client's input."""


class StillProcess:
    """Draws one picture at a time, in a process that is replaced when it hangs or dies."""

    def __init__(
        self, config: ServiceConfig, module: str = "serving.service.work.child", still_s: float = STILL_S
    ) -> None:
        """`module` is that of `JobProcess`; a picture that takes longer than `still_s` seconds is given up."""
        limits = dataclasses.replace(config.work, job_s=still_s, stall_s=still_s)
        self._process = JobProcess("still", dataclasses.replace(config, work=limits), module)
        self._lock = threading.Lock()

    def start(self) -> None:
        """Load the networks, so that the first picture need not wait for them. A failure is logged."""
        with self._lock:
            try:
                self._process.start()
            except ChildDied as error:
                log.error("%s", error)

    def draw(self, avatar_id: str, sliders: Mapping[str, float], max_size: int) -> StillAnswer:
        """Draw a picture of an avatar."""
        order = JobOrder(avatar_id, avatar_id, StillRequest(sliders, max_size))
        with self._lock:
            try:
                facts = self._process.run(order, Lease())
            except JobFailed as error:
                is_input = error.cause == "input"
                return StillAnswer(error=str(error) if is_input else _LATE, is_input=is_input)
            except ChildDied as error:
                log.error("a picture of avatar %s: %s", avatar_id, error)
                return StillAnswer(error=_LATE)
        return StillAnswer(base64.b64decode(str(facts["jpeg"])))

    def close(self) -> None:
        """Kill the process."""
        self._process.close()


class Stills:
    """A Serve replica that draws pictures for the front ends."""

    def __init__(self, config: ServiceConfig) -> None:
        if config.private:
            keep_serve_on_loopback()
        self._process = StillProcess(config)
        threading.Thread(target=self._process.start, daemon=True).start()

    async def draw(self, avatar_id: str, sliders: Mapping[str, float], max_size: int) -> StillAnswer:
        """See `StillProcess.draw`."""
        return await asyncio.to_thread(self._process.draw, avatar_id, sliders, max_size)

    def __del__(self) -> None:
        if hasattr(self, "_process"):
            self._process.close()


def draw_through(handle: Any) -> DrawStill:
    """Return what draws pictures through the deployment's handle."""

    async def draw(avatar_id: str, sliders: Mapping[str, float], max_size: int) -> bytes:
        try:
            async with asyncio.timeout(STILL_S):
                answer: StillAnswer = await handle.draw.remote(avatar_id, dict(sliders), max_size)
        except TimeoutError as error:
            raise Unavailable(_LATE, retry_after_s=2) from error
        return jpeg_of(answer)

    return draw


def jpeg_of(answer: StillAnswer) -> bytes:
    """Return the picture. Raises BadInput or Unavailable."""
    if answer.error:
        raise BadInput(answer.error) if answer.is_input else Unavailable(answer.error, retry_after_s=2)
    return answer.jpeg
