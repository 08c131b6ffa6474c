"""Start a Ray for this process alone, for commands that are given no cluster."""

import logging
import os
from typing import Any

# Whether machines may join. Without it, Ray's own ports listen on loopback alone; Ray reads it when it is imported.
_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
_OBJECT_STORE_BYTES = 150 * 2**20  # only small messages pass through Ray


def start_local_ray(num_cpus: int, **more: Any) -> None:
    """Start Ray on loopback, without dashboard; does nothing if this process uses one already.

    Args:
        more: further arguments of `ray.init`.

    On a busy machine Ray's daemon can exceed its startup timeout of 30 s: it is started up to three times.
    """
    os.environ.setdefault(_CLUSTERS, "0")
    import ray

    for tries_left in (2, 1, 0):
        try:
            ray.init(
                "local",  # do not join another cluster on this machine
                num_cpus=num_cpus,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
                ignore_reinit_error=True,
                _node_ip_address="127.0.0.1",
                **more,
            )
            return
        except Exception as error:
            if not tries_left or "timed out during startup" not in str(error):
                raise
            ray.shutdown()
