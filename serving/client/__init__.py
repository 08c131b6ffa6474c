"""A client of the HTTP service, for programs: `Client`, and `AsyncClient` with the same methods.

    with Client("http://localhost:8000") as service:
        avatar = service.wait(service.create_avatar([Path("portrait.jpg")], consent="agreed by her").id)
        video = service.wait(service.create_video(avatar.avatar_id, driver=Path("driver.mp4")).id)
        service.download(video.id, Path("video.mp4"))

Every method raises `ServiceError` with the service's own words when it refuses a request, and httpx's errors when it
cannot be reached.
"""

from serving.client.async_client import AsyncClient
from serving.client.calls import JobFailed, ServiceError
from serving.client.sync_client import Client

__all__ = ["AsyncClient", "Client", "JobFailed", "ServiceError"]
