"""The contact page of a run, `index.html`, and the posters on it: one small picture of each video."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from urllib.parse import quote

import jinja2
from markupsafe import Markup
from PIL import Image

from pipelines import storage
from pipelines.media.video import decode, probe
from serving.batch.results.preview_page import FOLDER as PREVIEWS
from serving.batch.results.preview_page import preview_name
from serving.batch.results.report import Row
from serving.batch.results.summary import counts, failures

NAME = "index.html"
POSTERS = "posters"
_MAX_SIDE = 160
_QUALITY = 75


@dataclass(frozen=True)
class _Card:
    """A finished video on the page. Links are relative to it, and quoted."""

    name: str
    video: str
    poster: str | None
    side_by_side: str | None
    preview: str | None
    facts: str


def poster_name(item: str) -> str:
    """Return the path of an item's poster in the folder of results."""
    return f"{POSTERS}/{item}.webp"


def write_poster(video: Path, url: str, sign: Callable[[bytes], bytes] = bytes) -> None:
    """Write the middle frame of a video to `url`, as WebP of at most 160 pixels, after `sign` has added credentials.

    Raises:
        ValueError: the video cannot be decoded.
    """
    middle = probe(video).num_frames // 2
    frame = next(decode(video, frame_indices=[middle]), None) or next(decode(video))
    picture = Image.fromarray(frame.image)
    picture.thumbnail((_MAX_SIDE, _MAX_SIDE))
    sink = io.BytesIO()
    picture.save(sink, "WEBP", quality=_QUALITY)
    storage.write_bytes(url, sign(sink.getvalue()))


def write_page(out: str, rows: Sequence[Row]) -> str:
    """Write the page of a run to the folder of its results, and return its path or URL.

    Pictures and videos are files beside the page, which a browser loads as they scroll into view.
    """
    url = storage.join(out, NAME)
    present = {file.removeprefix(out.rstrip("/") + "/") for file in _files(out)}
    storage.write_bytes(url, render(rows, present).encode())
    return url


def _files(out: str) -> list[str]:
    folders = (storage.join(out, name) for name in (POSTERS, PREVIEWS))
    return [
        *storage.list(out, recursive=False),
        *(url for one in folders for url in storage.list(one, recursive=False)),
    ]


def render(rows: Sequence[Row], present: set[str]) -> str:
    """Return the page as HTML; everything in it is escaped.

    Args:
        present: files that the page may link to, relative to it.
    """
    style = resources.files("serving.batch.results").joinpath("data", "contact.css").read_text()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("serving.batch.results", "data"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("contact.html.j2").render(
        counts=counts(rows),
        cards=[_card(row, present) for row in sorted(rows, key=lambda row: row.item) if row.video is not None],
        failures=failures(rows),
        style=Markup(style),  # trusted: a file of this package
    )


def _card(row: Row, present: set[str]) -> _Card:
    facts = [] if not row.frames or not row.fps else [f"{row.frames / row.fps:.1f} s"]
    facts.append("skipped: made before" if row.seconds is None else f"done in {row.seconds:.1f} s")
    preview = preview_name(row.item)
    poster, comparison = poster_name(row.item), f"{row.item}.side-by-side.mp4"
    return _Card(
        name=row.item,
        video=quote(f"{row.item}.mp4"),
        poster=quote(poster) if poster in present else None,
        side_by_side=quote(comparison) if comparison in present else None,
        preview=quote(preview) if preview in present else None,
        facts=" · ".join(facts),
    )
