"""A worker's process whose jobs misbehave as their avatar's id says; run as `python -m stuck_child KIND`."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time

from serving.service.config import ServiceConfig
from serving.service.state.requests import Facts
from serving.service.work.child import main
from serving.service.work.lease import JobOrder, Lease, Work


def make_work(kind: str, config: ServiceConfig) -> Work:
    if config.model == "broken":
        raise ValueError("the model is broken")
    return misbehave


def misbehave(order: JobOrder, lease: Lease) -> Facts:
    match order.avatar_id:
        case "works":
            for step in range(3):
                lease.progress(step + 1, 3, "rendering")
            return {"pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"], "jpeg": "AAAA"}
        case "bad input":
            raise ValueError("picture 1: no face found")
        case "our fault":
            raise RuntimeError("no such table in /data/secret at 10.0.0.7:5432")
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "long":  # asks whether it should stop
            for step in range(10_000):
                lease.progress(step, 10_000, "rendering")
                time.sleep(0.02)
        case "endless decoder":
            while True:
                pass
        case "stuck kernel":  # holds the interpreter's lock
            lease.progress(1, 9, "rendering")
            ctypes.PyDLL(None).sleep(600)
        case "stopped encoder":
            encoder = subprocess.Popen(["sleep", "600"])
            encoder.send_signal(signal.SIGSTOP)
            lease.progress(encoder.pid, 10**9, "rendering")
            encoder.wait()
    return {}


if __name__ == "__main__":
    main(sys.argv[1], make_work)
