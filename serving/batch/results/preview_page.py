"""The page of previews, `previews/index.html`: a picture and the warnings of each pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from pipelines import cli, storage
from serving.batch.results.summary import BatchResult

FOLDER = "previews"


@dataclass(frozen=True)
class PairPreview:
    """What became of the preview of one pair."""

    name: str
    warnings: tuple[str, ...] = ()
    reason: str | None = None
    """Why there is no picture, on one line."""


def preview_name(item: str) -> str:
    """Return the path of an item's preview in the folder of results."""
    return f"{FOLDER}/{item}.webp"


def write_preview_page(out: str, previews: Sequence[PairPreview]) -> str:
    """Write the page to the folder of the results, those with warnings first, and return its path or URL."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("serving.batch.results", "data"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = resources.files("serving.batch.results").joinpath("data", "contact.css").read_text()
    made = sorted((one for one in previews if one.reason is None), key=lambda one: (not one.warnings, one.name))
    page = environment.get_template("previews.html.j2").render(
        previews=[(one, quote(f"{one.name}.webp")) for one in made],
        failed=[one for one in previews if one.reason is not None],
        style=Markup(style),  # trusted: a file of this package
    )
    url = storage.join(out, FOLDER, "index.html")
    storage.write_bytes(url, page.encode())
    return url


def preview_result(out: str, previews: Sequence[PairPreview], notes: Sequence[str], seconds: float) -> BatchResult:
    """Write the page, and return the command's result; not ok when there is no picture."""
    page = cli.Artefact("page", write_preview_page(out, previews))
    made = [preview.name for preview in previews if preview.reason is None]
    pictures = (cli.Artefact("preview", storage.join(out, preview_name(name))) for name in made)
    lines = [f"{one.name}: {line}" for one in previews for line in (*one.warnings, one.reason) if line is not None]
    counts = {"previews": len(made), "failed": len(previews) - len(made)}
    return BatchResult((page, *pictures), counts, seconds, bool(made), (*notes, *lines))
