"""The reference page of the HTTP API, made from FastAPI's OpenAPI description of the service."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

from reference_pages import made_from, table, yes


def http_api() -> str:
    """Routes, what they take and answer, and every error."""
    from serving.service import errors
    from serving.service.config import UploadLimits
    from serving.service.http.api import create_api
    from serving.service.http.service import Service

    kinds = get_type_hints(Service)
    unasked = [object.__new__(kinds[name]) for name in ("jobs", "drivers", "audit", "store", "access")]
    described = create_api(Service(*unasked, UploadLimits())).openapi()
    pages = [
        "# HTTP API",
        made_from("FastAPI's OpenAPI description of the service"),
        "How to start it: [Run the service](../how-to/service.md). The running service has the description itself at "
        "`/openapi.json`. With API keys, every route but `/healthz`, `/v1/settings` and the page needs the header "
        "`Authorization: Bearer KEY`.",
    ]
    for path, methods in described["paths"].items():
        pages += [_route(method.upper(), path, route) for method, route in methods.items()]
    pages.append("## Schemas")
    pages += [
        f"### {name}\n\n{_schema(schema)}"
        for name, schema in described["components"]["schemas"].items()
        if name not in ("HTTPValidationError", "ValidationError")
    ]
    known = {kind.status: kind for kind in vars(errors).values() if hasattr(kind, "status")}
    told = _error_meanings(inspect.getdoc(errors) or "")
    rows = [(str(status), f"`{kind.code}`", told.get(kind.__name__, "")) for status, kind in sorted(known.items())]
    pages.append(
        "## Errors\n\nThe body is a [problem document](#problem) (RFC 9457): a stable `code` for programs, a `detail` "
        "for people.\n\n" + table(("status", "code", "when"), rows)
    )
    return "\n\n".join(pages) + "\n"


_BROWSER_HEADERS = ("host", "origin", "authorization")


def _route(method: str, path: str, route: Mapping[str, Any]) -> str:
    """One heading: what the route does, what it takes, what it answers."""
    parameters = [one for one in route.get("parameters", ()) if one["name"] not in _BROWSER_HEADERS]
    rows = [(f"`{one['name']}`", one["in"], _type(one["schema"]), yes(one["required"])) for one in parameters]
    for media, body in route.get("requestBody", {}).get("content", {}).items():
        if "$ref" in body["schema"]:
            rows.append(("body", media, _type(body["schema"]), ""))
            continue
        required = body["schema"].get("required", ())
        rows += [
            (f"`{name}`", media, _type(schema), yes(name in required))
            for name, schema in body["schema"]["properties"].items()
        ]
    status, answer = next(iter(route["responses"].items()))
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    parts = [f"## {method} {path}"]
    if "description" in route:
        parts.append(route["description"])
    if rows:
        parts.append(table(("name", "in", "type", "required"), rows))
    parts.append(f"Answers {status}" + (f" with {_type(schema)}." if _type(schema) else "."))
    return "\n\n".join(parts)


def _schema(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        (f"`{name}`", _type(field), yes(name in required), field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    ]
    return table(("field", "type", "always there", "meaning"), rows)


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = str(schema.get("type", ""))
    if kind == "array":
        return f"list of {_type(schema['items'])}"
    return "file" if schema.get("format") == "binary" else str(schema.get("format", kind))


def _error_meanings(doc: str) -> dict[str, str]:
    """`├── BadRequest   400   the request itself is malformed` as {class: meaning}."""
    lines = (line.replace("├──", "").replace("└──", "").split(maxsplit=2) for line in doc.splitlines())
    return {line[0]: line[2] for line in lines if len(line) == 3 and line[1].isdigit()}
