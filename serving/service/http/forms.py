"""Multipart forms: read within limits, then files saved and checked."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from serving.service.config import MIB, UploadLimits
from serving.service.errors import BadInput, BadRequest, TooLarge, UnsupportedMedia
from serving.service.http.limits import check_body_size

_COPY_CHUNK = MIB
_FILE = {"type": "string", "format": "binary"}


@asynccontextmanager
async def read_form(request: Request, limits: UploadLimits) -> AsyncIterator[FormData]:
    """Yield the request's multipart form and close its files afterwards. Files above 1 MB are on disk, not in memory.

    Raises:
        UnsupportedMedia, TooLarge, BadRequest: the content type, the size or the form is invalid.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise UnsupportedMedia("send the files as multipart/form-data")
    declared = request.headers.get("content-length", "")
    check_body_size(int(declared) if declared.isdecimal() else 0, limits)
    try:
        content = await request.form(
            max_files=limits.max_pictures + 1, max_fields=limits.max_fields, max_part_size=limits.max_field
        )
    except HTTPException as error:  # Starlette distinguishes its limits from a malformed body only by the message
        too_much = error.detail.startswith(("Too many", "Part exceeded"))
        raise (TooLarge if too_much else BadRequest)(error.detail) from error
    try:
        yield content
    finally:
        await content.close()


def form_files(form: FormData, names: Sequence[str], text_fields: Sequence[str] = ()) -> list[UploadFile]:
    """Return the files of the fields `names`. Raises BadInput for text instead of files, and unknown fields."""
    if unknown := sorted(set(form.keys()) - {*names, *text_fields}):
        raise BadInput(f"unknown field {unknown[0][:40]!r}; known: {', '.join([names[0], *text_fields])}")
    found = [value for name in names for value in form.getlist(name)]
    files = [value for value in found if isinstance(value, UploadFile)]
    if len(files) != len(found):
        raise BadInput(f"the field {names[0]!r} must hold a file")
    return files


def form_text(form: FormData, name: str) -> str | None:
    """Return a text field, stripped; None if it is missing or blank. Raises BadInput for a file."""
    value = form.get(name)
    if not (value is None or isinstance(value, str)):
        raise BadInput(f"{name} is a text, not a file")
    return (value or "").strip() or None


def save(source: BinaryIO, target: Path, *, max_bytes: int, what: str) -> str:
    """Copy an upload to `target` and return its sha256.

    Raises:
        TooLarge: it exceeds `max_bytes`.
        BadInput: it is empty.
    """
    digest = hashlib.sha256()
    written = 0
    with target.open("wb") as sink:
        while chunk := source.read(_COPY_CHUNK):
            written += len(chunk)
            if written > max_bytes:
                raise TooLarge(f"{what} is larger than {max_bytes / MIB:.4g} MiB")
            digest.update(chunk)
            sink.write(chunk)
    if not written:
        raise BadInput(f"{what} is empty")
    return digest.hexdigest()


def form_schema(files: Sequence[str], texts: Sequence[str], required: Sequence[str]) -> dict[str, Any]:
    """Return the OpenAPI body of an upload, which FastAPI cannot infer: the routes read the form themselves."""
    fields: dict[str, Any] = {
        **{name: {"type": "array", "items": _FILE} if name == "pictures" else _FILE for name in files},
        **{name: {"type": "string"} for name in texts},
    }
    schema = {"type": "object", "properties": fields, "required": list(required)}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
