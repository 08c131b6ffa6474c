"""The Ray Serve application of the HTTP service. Serve config files name it as `serving.app:build`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from serving.service.config import ServiceConfig, parse_config

if TYPE_CHECKING:
    from ray.serve import Application

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
_CPUS_PER_REPLICA = 0.1  # for Ray's scheduler only; it does not limit what a replica uses
OBJECT_STORE_BYTES = 150 * 1024 * 1024  # only small messages pass through Ray
_MAX_ONGOING_REQUESTS = 32
_MAX_QUEUED_REQUESTS = 64
REQUEST_TIMEOUT_S = 600.0


def build(args: Mapping[str, Any]) -> Application:
    """Build the application of a Serve config file, whose `args` are the fields of ServiceConfig.

    Raises:
        ValueError: an unknown key or an invalid value.
    """
    return build_application(parse_config(dict(args)))


def build_application(config: ServiceConfig) -> Application:
    """Build an HTTP ingress and two kinds of workers. They share only the jobs table, so each can restart by itself."""
    from ray import serve
    from ray.serve.config import BackpressureConfig

    from serving.service.finetuner import FineTuner
    from serving.service.renderer import Renderer
    from serving.service.routes import Ingress

    workers = {"num_cpus": _CPUS_PER_REPLICA, "num_gpus": config.num_gpus}
    common: dict[str, Any] = {"health_check_period_s": 5, "graceful_shutdown_timeout_s": 10}
    fine_tuner = serve.deployment(
        FineTuner, name="fine-tuner", num_replicas=config.num_finetuners, ray_actor_options=workers, **common
    )
    renderer = serve.deployment(
        Renderer, name="renderer", num_replicas=config.num_renderers, ray_actor_options=workers, **common
    )
    ingress = serve.deployment(
        serve.ingress()(Ingress),
        name="ingress",
        max_ongoing_requests=_MAX_ONGOING_REQUESTS,
        max_queued_requests=_MAX_QUEUED_REQUESTS,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=config.queue.retry_after_s),
        ray_actor_options={"num_cpus": _CPUS_PER_REPLICA},
        **common,
    )
    application: Application = ingress.bind(config, fine_tuner.bind(config), renderer.bind(config))
    return application
