"""Errors as problem documents (RFC 9457), with the content type application/problem+json."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serving.bodies import Problem
from serving.service import errors

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


async def answer(_request: Request, error: Exception) -> JSONResponse:
    """Answer any error with a problem document of its status."""
    headers: dict[str, str] = {}
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return problem(errors.BadInput.status, errors.BadInput.code, f"{where}: {first['msg']}")
    if isinstance(error, HTTPException):
        headers |= error.headers or {}
        return problem(error.status_code, errors.code_for_status(error.status_code), error.detail, headers)
    shown = errors.BadRequest("the upload ended early") if isinstance(error, ClientDisconnect) else error
    known = errors.as_service_error(shown)
    if known.status == errors.Internal.status:
        log.error("a request failed", exc_info=error)
    if known.retry_after_s is not None:
        headers["Retry-After"] = str(known.retry_after_s)
    if known.status == errors.Unauthorized.status:
        headers["WWW-Authenticate"] = "Bearer"
    return problem(known.status, known.code, known.message, headers)


def problem(status: int, code: str, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return a problem document as a response."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = str(status)
    body = Problem(type="about:blank", title=title, status=status, detail=detail, code=code).model_dump()
    return JSONResponse(body, status, headers, MEDIA_TYPE)
