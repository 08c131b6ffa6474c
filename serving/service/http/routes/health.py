"""Health, for load balancers and Kubernetes."""

from __future__ import annotations

from serving.bodies import HealthView
from serving.service.http.routes.common import ServiceOf, new_router

router = new_router()


@router.get("/healthz")
async def health(service: ServiceOf) -> HealthView:
    """Answer ok while the database answers."""
    await service.reading(service.jobs.counts, "video")
    return HealthView()


@router.get("/-/healthz", include_in_schema=False)
async def health_of_node(service: ServiceOf) -> HealthView:
    """The path at which KubeRay asks whether a pod serves."""
    return await health(service)
