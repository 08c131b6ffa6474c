"""The Ray Serve application of the HTTP service. Serve config files name it as `serving.app:build`.

Front ends, fine-tuners and renderers share only the database and the store, so each can restart, and be scaled, by
itself. Serve's proxy is not used: the config file says `proxy_location: Disabled`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from serving.service.config import ServiceConfig, parse_config

if TYPE_CHECKING:
    from ray.serve import Application

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
FRONT_END_CPUS = 0.1  # for Ray's scheduler only; it does not limit what they use


def build(args: Mapping[str, Any]) -> Application:
    """Build the application of a Serve config file, whose `args` are the fields of ServiceConfig.

    Raises:
        ValueError: an unknown key or an invalid value.
    """
    return build_application(parse_config(dict(args)))


def build_application(config: ServiceConfig) -> Application:
    """Build the deployments of a configuration."""
    from ray import serve

    from serving.service.front_end import FrontEnd
    from serving.service.work.replica import FineTuner, Renderer

    common: dict[str, Any] = {"health_check_period_s": 5, "health_check_timeout_s": 30}
    worker = {
        **common,
        "graceful_shutdown_timeout_s": config.work.grace_s + 5,
        "ray_actor_options": {"num_cpus": config.cpus_per_worker, "num_gpus": config.num_gpus},
    }
    fine_tuner = serve.deployment(
        FineTuner, name="fine-tuner", **worker, **_scale(config, "avatar", config.num_finetuners)
    )
    renderer = serve.deployment(Renderer, name="renderer", **worker, **_scale(config, "video", config.num_renderers))
    front_end = serve.deployment(
        FrontEnd,
        name="front-end",
        num_replicas=config.num_front_ends,
        graceful_shutdown_timeout_s=config.drain_s + 5,
        ray_actor_options={"num_cpus": FRONT_END_CPUS},
        **common,
    )
    application: Application = front_end.bind(config, fine_tuner.bind(config), renderer.bind(config))
    return application


def _scale(config: ServiceConfig, kind: str, num_workers: int) -> dict[str, Any]:
    """Return a fixed number of replicas, or their scaling by the queue."""
    if config.min_workers is None or config.min_workers >= num_workers:
        return {"num_replicas": num_workers}
    from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

    from serving.service.scaling import QueuePolicy

    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=config.min_workers,
            initial_replicas=config.min_workers,
            max_replicas=num_workers,
            upscale_delay_s=1.0,
            downscale_delay_s=config.idle_s,
            downscale_to_zero_delay_s=config.idle_s,
            policy=AutoscalingPolicy(
                policy_function=QueuePolicy, policy_kwargs={"kind": kind, "database": config.database_url}
            ),
        )
    }
