"""All errors of the service and their HTTP statuses.

    ServiceError
    ├── BadRequest          400   the request itself is malformed
    ├── Unauthorized        401   missing or wrong API key
    ├── Forbidden           403   request from a web page of another origin
    ├── NotFound            404   no such job, avatar or result
    ├── UploadTimeout       408   the client stopped sending
    ├── Conflict            409   wrong state for the request
    ├── TooLarge            413   more bytes, files or fields than allowed
    ├── UnsupportedMedia    415   not the content type that the route takes
    ├── BadInput            422   the upload is not a picture or video, or a field is invalid
    ├── QueueFull           429   too many waiting jobs
    ├── Internal            500   a fault of the server
    ├── Unavailable         503   the database or the storage does not answer
    └── StorageFull         507   the disk is full

Messages are for clients: they never hold a traceback, a server path or an address. `public_reason` makes such a message
from any other exception.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

_MAX_REASON = 300
# An absolute path of two or more parts, a URL, or an IP address, which messages must not disclose.
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://\S+|(?<![\w.])(?:/[^\s'\":,;]+){2,}|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b")


class ServiceError(Exception):
    """An error with an HTTP status and a message for the client."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class BadRequest(ServiceError):
    status, code = 400, "bad_request"


class Unauthorized(ServiceError):
    status, code = 401, "unauthorized"


class Forbidden(ServiceError):
    status, code = 403, "forbidden"


class NotFound(ServiceError):
    status, code = 404, "not_found"


class UploadTimeout(ServiceError):
    status, code = 408, "upload_timeout"


class Conflict(ServiceError):
    status, code = 409, "conflict"


class TooLarge(ServiceError):
    status, code = 413, "too_large"


class UnsupportedMedia(ServiceError):
    status, code = 415, "unsupported_media_type"


class BadInput(ServiceError):
    status, code = 422, "bad_input"


class QueueFull(ServiceError):
    status, code = 429, "queue_full"


class Internal(ServiceError):
    status, code = 500, "internal"


class Unavailable(ServiceError):
    status, code = 503, "unavailable"


class StorageFull(ServiceError):
    status, code = 507, "storage_full"


_BY_STATUS: Mapping[int, type[ServiceError]] = {
    error.status: error
    for error in (
        BadRequest,
        Unauthorized,
        Forbidden,
        NotFound,
        UploadTimeout,
        Conflict,
        TooLarge,
        UnsupportedMedia,
        BadInput,
        QueueFull,
        Internal,
        Unavailable,
        StorageFull,
    )
}


class JobCancelled(Exception):
    """Raised inside a job when its lease is lost: the client cancelled it, or another worker has it."""


def code_for_status(status: int) -> str:
    """Return the error code for a status that a framework raised by itself, such as the router's 405."""
    return _BY_STATUS[status].code if status in _BY_STATUS else f"http_{status}"


def as_service_error(error: BaseException) -> ServiceError:
    """Convert an exception to one for clients: a ServiceError as it is, a full disk, or a generic internal error."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("the server's disk is full; try again later")
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, not imported here
        return Unavailable("the server has too little memory for this; try again later")
    return Internal("internal error; it is in the server's log")


@contextmanager
def in_clients_words(names: Mapping[str, str]) -> Iterator[None]:
    """Rename the files in a ValueError of the block: server path -> the client's name of the file."""
    try:
        yield
    except ValueError as error:
        raise ValueError(public_reason(error, names)) from error


def public_reason(error: BaseException, names: Mapping[str, str]) -> str:
    """Describe an exception in one line for the client.

    Only a ValueError is about the client's input; any other exception becomes "internal error".

    Args:
        error: the exception.
        names: server path -> the name that the client knows the file by ("picture 1").
    """
    if not isinstance(error, ValueError):
        return as_service_error(error).message
    reason = str(error).strip() or "the input was refused"
    for path in sorted(names, key=len, reverse=True):
        reason = reason.replace(path, names[path])
    reason = _ADDRESS.sub("…", reason.splitlines()[0])
    return reason if len(reason) <= _MAX_REASON else reason[: _MAX_REASON - 1] + "…"
