"""The child's side of `process`: `python -m serving.service.work.child KIND`, told the rest on its standard input."""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from pipelines import log_lines
from pipelines.parent_process import die_with_parent
from serving.service.config import ServiceConfig, parse_config
from serving.service.errors import JobCancelled, public_reason
from serving.service.state.requests import work_from_json
from serving.service.work.lease import JobOrder, Lease, Work

log = logging.getLogger(__name__)

_REPORT_S = 0.1  # least time between two messages of progress


class _Messages:
    """Lines of JSON to the parent, from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._sink = os.fdopen(descriptor, "w", encoding="utf-8")
        self._lock = threading.Lock()

    def send(self, **message: Any) -> None:
        with self._lock:
            self._sink.write(json.dumps(message) + "\n")
            self._sink.flush()


class _Progress:
    """Sends progress to the parent, at most ten times a second; a new stage and the end always."""

    def __init__(self, messages: _Messages) -> None:
        self._messages, self._stage, self._sent_at = messages, "", 0.0

    def __call__(self, done: int, total: int, stage: str) -> None:
        now = time.monotonic()
        if stage == self._stage and done < total and now < self._sent_at + _REPORT_S:
            return
        self._stage, self._sent_at = stage, now
        self._messages.send(op="progress", done=done, total=total, stage=stage)


def main(kind: str, make_work: Callable[[str, ServiceConfig], Work]) -> None:
    """Serve jobs until the parent closes the pipe; then end with every process of this group."""
    die_with_parent()
    messages = _Messages(os.dup(1))
    os.dup2(2, 1)  # what libraries print must not come between messages
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    log_lines.install("serve")
    orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    running: list[Lease] = []
    config = parse_config(json.loads(sys.stdin.readline() or "{}"))
    threading.Thread(target=_listen, args=(orders, running), daemon=True).start()
    try:
        work = make_work(kind, config)
    except Exception as error:
        log.exception("the %s worker does not start", kind)
        messages.send(op="died", reason=f"{type(error).__name__}: {error}")
        raise SystemExit(1) from None
    messages.send(op="ready")
    while True:
        message = orders.get()
        request = work_from_json(json.dumps(message["request"]))
        lease = Lease(_Progress(messages))
        running[:] = [lease]
        messages.send(**_answer(work, JobOrder(message["id"], message["avatar_id"], request), lease))
        running.clear()


def _listen(orders: queue.SimpleQueue[dict[str, Any]], running: list[Lease]) -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if message["op"] == "run":
            orders.put(message)
        for lease in running if message["op"] == "stop" else ():
            lease.stop()
    os.killpg(os.getpgrp(), signal.SIGKILL)  # the parent is gone, perhaps killed


def _answer(work: Work, order: JobOrder, lease: Lease) -> dict[str, Any]:
    try:
        return {"op": "done", "facts": dict(work(order, lease))}
    except JobCancelled:
        return {"op": "stopped"}
    except Exception as error:
        if lease.stopped:  # errors of a job that is being stopped say nothing about its input
            return {"op": "stopped"}
        if not isinstance(error, ValueError):
            log.error("job %s failed", order.id, exc_info=error, extra={"job": order.id})
        return {"op": "failed", "reason": public_reason(error, {}), "is_input": isinstance(error, ValueError)}


def make_work(kind: str, config: ServiceConfig) -> Work:
    """Load the models of a kind of jobs, and return what runs them, with as many threads as the worker has CPUs."""
    import cv2

    cv2.setNumThreads(max(1, round(config.cpus_per_worker)))  # torch takes their number from the environment
    if kind == "avatar":
        from serving.service.work.finetuner import make_finetuner

        return make_finetuner(config)
    if kind == "still":
        from serving.service.work.drawer import make_drawer

        return make_drawer(config)
    from serving.service.work.renderer import make_renderer

    return make_renderer(config)


if __name__ == "__main__":
    main(sys.argv[1], make_work)
