"""Remove what is kept no longer: uploads, results, and what interrupted requests have left."""

from __future__ import annotations

import logging
import threading

from serving.service.state.drivers import Drivers
from serving.service.state.job_queue import JobQueue
from serving.service.store import Store

log = logging.getLogger(__name__)

_EVERY_S = 30.0
_RECEIVING_S = 3600.0  # longer than any upload may take


class Housekeeping:
    """Sweeps from time to time, in a thread. Any number of front ends may do so at once."""

    def __init__(self, jobs: JobQueue, drivers: Drivers, store: Store) -> None:
        self._jobs, self._drivers, self._store = jobs, drivers, store
        self._stopping = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._loop, name="housekeeping", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def _loop(self) -> None:
        while True:
            try:
                self.sweep()
            except Exception:  # tried again; a store that does not answer must not end the front end
                log.exception("files that are kept no longer could not be removed")
            if self._stopping.wait(_EVERY_S):
                return

    def sweep(self) -> None:
        """Remove stale uploads, expired jobs with their results, and uploads that never became a job."""
        for job_id in self._jobs.stale_uploads():
            self._store.remove_uploads(job_id)
            self._jobs.uploads_removed(job_id)
        for job in self._jobs.expired(_RECEIVING_S):
            self._store.remove_uploads(job.id)
            self._store.remove_result(job.id)
            self._jobs.delete([job.id])
        for driver_id in self._drivers.unfinished(_RECEIVING_S):
            self._store.remove_driver(driver_id)
            self._drivers.delete(driver_id)
