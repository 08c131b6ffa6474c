"""Single pictures, drawn while clients wait, in a front end's processes that can be killed.

Work without a place in the jobs table: a picture takes a fraction of a second, and one that is late is of no use.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from serving.service.config import ServiceConfig
from serving.service.errors import BadInput, Unavailable
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
                log.error("a picture of avatar %s: %s", avatar_id, error, extra={"avatar": avatar_id})
                return StillAnswer(error=_LATE)
        return StillAnswer(base64.b64decode(str(facts["jpeg"])))

    def close(self) -> None:
        """Kill the process."""
        self._process.close()


class StillPool:
    """Draws pictures for a front end, as many at the same time as it has processes.

    Each process belongs to a thread, which starts it and draws with it: Linux ends a child with the thread that started
    it (`die_with_parent`).
    """

    def __init__(self, make: Callable[[], StillProcess], number: int) -> None:
        self._make, self._number = make, number
        self._processes: list[StillProcess] = []
        self._own = threading.local()
        self._threads = ThreadPoolExecutor(number, "stills", self._begin)

    def _begin(self) -> None:
        self._own.process = self._make()
        self._processes.append(self._own.process)
        self._own.process.start()

    def start(self) -> None:
        """Start the processes, in the background."""
        for _ in range(self._number):
            self._threads.submit(lambda: None)

    async def draw(self, avatar_id: str, sliders: Mapping[str, float], max_size: int) -> bytes:
        """Return a picture as JPEG. Raises BadInput or Unavailable."""
        drawing = asyncio.get_running_loop().run_in_executor(self._threads, self._draw, avatar_id, sliders, max_size)
        try:
            return jpeg_of(await asyncio.wait_for(drawing, STILL_S))
        except TimeoutError as error:  # others were drawn all the while
            raise Unavailable(_LATE, retry_after_s=2) from error

    def _draw(self, avatar_id: str, sliders: Mapping[str, float], max_size: int) -> StillAnswer:
        process: StillProcess = self._own.process
        return process.draw(avatar_id, sliders, max_size)

    def close(self) -> None:
        """Kill the processes."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.close()


def jpeg_of(answer: StillAnswer) -> bytes:
    """Return the picture. Raises BadInput or Unavailable."""
    if answer.error:
        raise BadInput(answer.error) if answer.is_input else Unavailable(answer.error, retry_after_s=2)
    return answer.jpeg
