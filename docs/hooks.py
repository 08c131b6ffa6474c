"""MkDocs hook: the reference pages that are made from the code, and links to files outside docs/.

`make docs` builds them each time, so no flag, field or route can differ from the code: the command line from the
verbs' parsers, the configuration from the dataclasses and presets, the HTTP API from FastAPI's OpenAPI description.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib
import inspect
import os
import re
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
_SHIM = "https://unpkg.com/iframe-worker/shim"
_FLAG_IN_TEXT = re.compile(r"(?<![\w`-])--[a-z][\w-]*(?!`)\b")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    sys.path.insert(0, str(ROOT))
    for path, page in PAGES.items():
        files.append(File.generated(config, path, content=page()))
    return files


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001 - named by MkDocs
    """Take the one script that the theme fetches from a CDN from this site."""
    return output.replace(_SHIM, f"{'../' * page.url.count('/')}iframe-worker.js")


def on_post_template(output_content: str, template_name: str, config: MkDocsConfig) -> str:  # noqa: ARG001
    """The same for the page of a wrong address, whose depth nobody knows."""
    return output_content.replace(_SHIM, "/iframe-worker.js")


# The command line


def command_line() -> str:
    """Every verb with its arguments and flags."""
    import sfumato

    pages = ["# Command line", _made_from("the verbs' options")]
    pages.append(
        _table(("command", "purpose"), [(f"[`{verb}`](#{_slug(verb)})", _verb_help(verb)) for verb in sfumato.VERBS])
    )
    pages.append(
        "Flags of every command:\n\n"
        + _table(("flag", "meaning"), [(f"`{flag}`", text) for flag, text in sfumato.FLAGS_OF_EVERY_VERB.items()])
    )
    pages.append(
        "Exit codes: 0 done, 1 nothing usable was made, 2 a mistake on the command line, 130 interrupted. Messages go "
        "to standard error; standard output has the result."
    )
    for verb in sfumato.VERBS:
        module = importlib.import_module(sfumato.VERBS[verb].module)
        pages.append(f"## {verb}\n\n{_first_line(module.Options.__doc__)}\n\n{_flags(parser_of(module.Options))}")
    return "\n\n".join(pages) + "\n"


def parser_of(options: type) -> Any:
    """The parser that tyro makes of a verb's options: what `--help` prints, as data."""
    import tyro

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # tyro offers nothing else to read flags from
        return tyro.extras.get_parser(options)


def flags_of(action: argparse.Action) -> list[str]:
    """A flag's spellings: short ones, then its name. Older names, which still work, are not shown."""
    short = [flag for flag in action.option_strings if not flag.startswith("--")]
    names = [flag for flag in action.option_strings if flag.startswith("--") and not flag.startswith("--no-")]
    negated = [f"--no-{name[2:]}" for name in names[-1:] if f"--no-{name[2:]}" in action.option_strings]
    lone = [flag for flag in action.option_strings if flag.startswith("--no-")][-1:] if not names else []
    return [*short, *names[-1:], *negated, *lone]


def _flags(parser: Any) -> str:
    rows = []
    for action in parser._actions:
        if action.dest == "help":
            continue
        text, default = _split_default(action.help or "")
        name = ", ".join(f"`{flag}`" for flag in flags_of(action)) or f"`{action.dest.upper()}`"
        if action.dest == "workers" and default == f"`{os.cpu_count()}`":
            default = "one per core"
        rows.append((name, _values(action), _FLAG_IN_TEXT.sub(r"`\g<0>`", text), default))
    return _table(("argument", "value", "meaning", "default"), rows)


def _values(action: argparse.Action) -> str:
    """What follows a flag: the words to choose from, or what it is, such as INT."""
    if action.nargs == 0:
        return ""
    if action.choices:
        return ", ".join(f"`{choice}`" for choice in action.choices)
    kind = re.sub(r"[\[\]]|\{None\}\|", "", str(action.metavar)).split()
    return f"`{kind[0]}` ..." if len(kind) > 1 else f"`{kind[0]}`"


def _split_default(help_text: str) -> tuple[str, str]:
    """Help without tyro's note in brackets, and the default that it tells."""
    text = " ".join(help_text.split()).removesuffix("(repeatable)").strip()
    for word in ("(required)", "(default:"):
        head, found, tail = text.rpartition(word)
        if found:
            default = tail.strip().removesuffix(")")
            return head.strip(), "required" if word == "(required)" else f"`{default}`" if default not in (
                "",
                "None",
            ) else ""
    return text, ""


def _verb_help(verb: str) -> str:
    import sfumato

    return sfumato.VERBS[verb].help.replace("->", "→")


# The configuration


def configuration() -> str:
    """Fields of the configuration with their defaults, values of the presets, the service's configuration."""
    from training.config import TrainConfig
    from training.presets import PRESETS

    presets = {name: _flat(make()) for name, make in PRESETS.items()}
    fields = [field for field in presets["paper"] if len({str(values.get(field)) for values in presets.values()}) > 1]
    rows = [(f"`{field}`", *(f"`{values[field]}`" for values in presets.values())) for field in fields]
    pages = [
        "# Configuration and presets",
        _made_from("`training.config`, `training.presets` and the service's configuration"),
        "A base model stores its configuration in `config.json` and in its card. A run refuses to resume with another.",
        "## Presets",
        "Fields in which the presets differ; everything else has the default below.",
        _table(("field", *(f"`{name}`" for name in presets)), rows),
        "## Training",
    ]
    pages += [_class(kind) for kind in _with_nested(TrainConfig)]
    service = _import("serving.service.config", "serving.config")
    pages += ["## Service", "Of `sfumato serve` and of the `args` in `infra/kuberay/rayservice.yaml`."]
    pages += [_class(kind) for kind in _with_nested(service.ServiceConfig)]
    return "\n\n".join(pages) + "\n"


def _class(kind: type) -> str:
    docs, hints = dict(field_docs(kind)), get_type_hints(kind)
    rows = []
    for field in dataclasses.fields(kind):
        default = _default(field)
        rows.append(
            (f"`{field.name}`", _type_name(hints[field.name]), default and f"`{default}`", docs.get(field.name, ""))
        )
    return f"### {kind.__name__}\n\n{_first_line(kind.__doc__)}\n\n" + _table(
        ("field", "type", "default", "meaning"), rows
    )


def field_docs(kind: type) -> Iterator[tuple[str, str]]:
    """The names of a dataclass's fields with the docstrings below them."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            yield field.target.id, " ".join(str(ast.literal_eval(below.value)).split())


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return str(field.default)
    made = field.default_factory() if field.default_factory is not dataclasses.MISSING else ""
    return "" if dataclasses.is_dataclass(made) else str(made)


def _with_nested(kind: type) -> Iterator[type]:
    """A dataclass, then those that are the types of its fields."""
    yield kind
    for hint in get_type_hints(kind).values():
        for nested in (hint, *get_args(hint)):
            if dataclasses.is_dataclass(nested):
                assert isinstance(nested, type)
                yield from _with_nested(nested)


def _type_name(hint: Any) -> str:
    """A type as people write it; one of a dataclass is a link to its table."""
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    if get_origin(hint) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(hint))
    if type(None) in get_args(hint):
        return f"{_type_name(get_args(hint)[0])} or none"
    return f"`{hint.__name__ if isinstance(hint, type) and not get_args(hint) else hint}`"


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """A nested dataclass as {dotted name: value}."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(values):
        value, name = getattr(values, field.name), f"{prefix}{field.name}"
        flat |= _flat(value, f"{name}.") if dataclasses.is_dataclass(value) else {name: value}
    return flat


# The HTTP API


def http_api() -> str:
    """Routes, what they take and answer, and every error."""
    routes = _import("serving.service.routes", "serving.ingress")
    limits = _import("serving.service.config", "serving.config").UploadLimits()
    errors = _import("serving.service.errors", "serving.errors")
    kinds = get_type_hints(routes.Service)
    jobs, store = object.__new__(kinds["jobs"]), object.__new__(kinds["store"])  # nothing is asked of them
    described = routes.create_api(routes.Service(jobs, store, limits, None)).openapi()
    pages = [
        "# HTTP API",
        _made_from("FastAPI's OpenAPI description of the service"),
        "How to start it: [Run the service](../how-to/service.md). The running service has the description itself at "
        "`/openapi.json`. With an API key, every route but `/healthz` needs the header `Authorization: Bearer KEY`.",
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
        "## Errors\n\nThe body is an [ErrorView](#errorview): a stable `code` for programs, a `message` for people.\n\n"
        + _table(("status", "code", "when"), rows)
    )
    return "\n\n".join(pages) + "\n"


_BROWSER_HEADERS = ("host", "origin", "authorization")


def _route(method: str, path: str, route: Mapping[str, Any]) -> str:
    """One heading: what the route does, what it takes, what it answers."""
    parameters = [one for one in route.get("parameters", ()) if one["name"] not in _BROWSER_HEADERS]
    rows = [(f"`{one['name']}`", one["in"], _type(one["schema"]), _yes(one["required"])) for one in parameters]
    for media, body in route.get("requestBody", {}).get("content", {}).items():
        required = body["schema"].get("required", ())
        rows += [
            (f"`{name}`", media, _type(schema), _yes(name in required))
            for name, schema in body["schema"]["properties"].items()
        ]
    status, answer = next(iter(route["responses"].items()))
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    parts = [f"## {method} {path}"]
    if "description" in route:
        parts.append(route["description"])
    if rows:
        parts.append(_table(("name", "in", "type", "required"), rows))
    parts.append(f"Answers {status}" + (f" with {_type(schema)}." if _type(schema) else "."))
    return "\n\n".join(parts)


def _schema(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        (f"`{name}`", _type(field), _yes(name in required), field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    ]
    return _table(("field", "type", "always there", "meaning"), rows)


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


# Shared


def _import(*names: str) -> Any:
    """The first of these modules that exists."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not name.startswith(str(error.name)):
                raise
    raise ModuleNotFoundError(" or ".join(names))


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", r"\|")


def _made_from(what: str) -> str:
    return f"Generated from {what}."


def _first_line(doc: str | None) -> str:
    return (inspect.cleandoc(doc) if doc else "").partition("\n\n")[0]


def _slug(verb: str) -> str:
    return verb.replace(" ", "-")


def _yes(condition: bool) -> str:
    return "yes" if condition else ""


PAGES: Mapping[str, Callable[[], str]] = {
    "reference/command-line.md": command_line,
    "reference/configuration.md": configuration,
    "reference/http-api.md": http_api,
}
