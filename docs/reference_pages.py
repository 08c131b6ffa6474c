"""Reference pages made from the code: the command line from its parsers, the configuration from its dataclasses."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib
import inspect
import re
import textwrap
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pipelines.machine import available_cpus

_FLAG_IN_TEXT = re.compile(r"(?<![\w`-])--[a-z][\w-]*(?!`)\b")


# The command line


def command_line() -> str:
    """Every verb with its arguments and flags."""
    import sfumato

    pages = ["# Command line", made_from("the verbs' options")]
    pages.append(
        table(("command", "purpose"), [(f"[`{verb}`](#{slug(verb)})", _verb_help(verb)) for verb in sfumato.VERBS])
    )
    pages.append(
        "Flags of every command:\n\n"
        + table(("flag", "meaning"), [(f"`{flag}`", text) for flag, text in sfumato.FLAGS_OF_EVERY_VERB.items()])
    )
    pages.append(
        "Exit codes: 0 done, 1 nothing usable was made, 2 a mistake on the command line, 130 interrupted. Messages go "
        "to standard error; standard output has the result."
    )
    for verb in sfumato.VERBS:
        module = importlib.import_module(sfumato.VERBS[verb].module)
        pages.append(f"## {verb}\n\n{first_line(module.Options.__doc__)}\n\n{_flags(parser_of(module.Options))}")
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
        if action.dest == "workers" and default == f"`{available_cpus()}`":
            default = "one per core"
        rows.append((name, _values(action), _FLAG_IN_TEXT.sub(r"`\g<0>`", text), default))
    return table(("argument", "value", "meaning", "default"), rows)


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
    from serving.service.config import ServiceConfig
    from training.config import TrainConfig
    from training.presets import PRESETS

    presets = {name: _flat(make()) for name, make in PRESETS.items()}
    fields = [field for field in presets["paper"] if len({str(values.get(field)) for values in presets.values()}) > 1]
    rows = [(f"`{field}`", *(f"`{values[field]}`" for values in presets.values())) for field in fields]
    pages = [
        "# Configuration and presets",
        made_from("`training.config`, `training.presets` and the service's configuration"),
        "A base model stores its configuration in `config.json` and in its card. A run refuses to resume with another.",
        "## Presets",
        "Fields in which the presets differ; everything else has the default below.",
        table(("field", *(f"`{name}`" for name in presets)), rows),
        "## Training",
    ]
    pages += [_class(kind) for kind in _with_nested(TrainConfig)]
    pages += ["## Service", "Of `sfumato serve` and of the `args` in `infra/kubernetes/base/serve/rayservice.yaml`."]
    pages += [_class(kind) for kind in _with_nested(ServiceConfig)]
    return "\n\n".join(pages) + "\n"


def _class(kind: type) -> str:
    docs, hints = dict(field_docs(kind)), get_type_hints(kind)
    rows = []
    for field in dataclasses.fields(kind):
        default = _default(field)
        rows.append(
            (f"`{field.name}`", _type_name(hints[field.name]), default and f"`{default}`", docs.get(field.name, ""))
        )
    return f"### {kind.__name__}\n\n{first_line(kind.__doc__)}\n\n" + table(
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


# Shared


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *(list(map(cell, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", r"\|")


def made_from(what: str) -> str:
    return f"Generated from {what}."


def first_line(doc: str | None) -> str:
    return (inspect.cleandoc(doc) if doc else "").partition("\n\n")[0]


def slug(verb: str) -> str:
    return verb.replace(" ", "-")


def yes(condition: bool) -> str:
    return "yes" if condition else ""
