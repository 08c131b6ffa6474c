"""The FastAPI application: all routes, errors as problem documents, limits and security headers."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serving.bodies import VideoBody
from serving.service.errors import ServiceError
from serving.service.http.headers import PageFiles, SecurityHeaders
from serving.service.http.limits import LimitBodies
from serving.service.http.problems import answer
from serving.service.http.request_log import RequestLog
from serving.service.http.routes import avatars, drivers, health, jobs, metrics, page, stills, videos
from serving.service.http.service import Service
from serving.service.page import FOLDER


class _Api(FastAPI):
    """Describes the bodies that routes read themselves, too."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            schemas = super().openapi()["components"]["schemas"]
            body = VideoBody.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(body.pop("$defs"), VideoBody=body)
        return super().openapi()


def create_api(service: Service) -> FastAPI:
    """Create the application. It depends on `service` only, so tests run it without Ray."""
    api = _Api(title="Sfumato", summary="Brings portraits to life.", version="1", docs_url=None, redoc_url=None)
    api.state.service, api.state.access = service, service.access
    for module in (avatars, stills, drivers, videos, jobs, page, health, metrics):
        api.include_router(module.router)
    api.mount("/static", PageFiles(directory=FOLDER), "page")
    handlers: tuple[Any, ...] = (ServiceError, RequestValidationError, HTTPException, ClientDisconnect, Exception)
    for kind in handlers:
        api.add_exception_handler(kind, answer)
    api.add_middleware(LimitBodies, limits=service.limits)
    api.add_middleware(SecurityHeaders)
    api.add_middleware(RequestLog)
    return api
