"""Render the preview of a data set as one self-contained HTML page. All data is escaped, and nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from pipelines.curation.histograms import Histogram, histogram, near_misses, pose_coverage
from pipelines.curation.preview_sample import PreviewSample, Tile
from pipelines.dataset.data_card import EXPLANATIONS
from pipelines.dataset.manifest import DatasetManifest
from pipelines.dataset.schema import SPLITS
from pipelines.faces.landmark_image import RasterConfig, polylines
from pipelines.preprocess.quality import QualityRule

_CHARTS = (
    ("Yaw", "°", "yaw"),
    ("Pitch", "°", "pitch"),
    ("Roll", "°", "roll"),
    ("Sharpness", "", "sharpness"),
    ("Brightness", "0–255", "brightness"),
    ("Mouth openness", "", "mouth_openness"),
    ("Eye openness", "", "eye_openness"),
)


def render(manifest: DatasetManifest, gallery: PreviewSample, seed: int) -> str:
    """Return the page as HTML. The same arguments give the same text."""
    style, script = (
        resources.files("pipelines.curation").joinpath("data", f"inspect.{kind}").read_text() for kind in ("css", "js")
    )
    poses = pose_coverage(gallery.numbers["yaw"], gallery.numbers["pitch"])
    thresholds = near_misses(QualityRule(**manifest.config["clip"]["quality"]), gallery.rejects)
    total = float(sum(manifest.stage_seconds.values()))
    return (
        _environment(int(poses.counts.max()))
        .get_template("inspect.html.j2")
        .render(
            manifest=manifest,
            counts={"inputs": 0, "done": 0, "rejected": 0, "failed": 0, "frames": 0, **manifest.counts},
            figures=_figures(manifest),
            splits=[split for split in SPLITS if any(strip.split == split for strip in gallery.strips)],
            gallery=gallery,
            num_identities=len({strip.names[0] for strip in gallery.strips}),
            lines=_lines,
            explanations=EXPLANATIONS,
            refused=_refused(gallery),
            num_frames=len(gallery.numbers["yaw"]),
            poses=poses,
            histograms=_histograms(gallery),
            thresholds=thresholds,
            num_considered=sum(threshold.num_refused for threshold in thresholds),
            total_seconds=total,
            seconds=[
                (stage, value, value / total if total else 0.0)
                for stage, value in sorted(manifest.stage_seconds.items(), key=lambda item: -item[1])
            ],
            sampled=_sampled(manifest, gallery, seed),
            # Both are files of this package; the page's security policy allows no other script.
            style=Markup(style),
            script=Markup(script),
            script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def _environment(most: int) -> jinja2.Environment:
    """Return the template environment; a cell with `most` frames is the darkest of the pose map."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipelines.curation", "data"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "base64": lambda data: base64.b64encode(data).decode(),
        "number": lambda value: f"{value:,}",
        "short": short,
        "strength": lambda count: round(0.12 + 0.88 * math.sqrt(count / max(1, most)), 3),
    }
    return environment


def short(value: float) -> str:
    """Format a number with about three digits and no exponent."""
    if not math.isfinite(value):
        return "unknown"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    text = f"{value:,.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text.replace("-", "−")


def _figures(manifest: DatasetManifest) -> list[tuple[str, int]]:
    return [
        ("identities", manifest.counts.get("identities", 0)),
        ("frames", manifest.counts.get("frames", 0)),
        ("shots at most", manifest.episode_k_max),
        ("shards", len(manifest.shards)),
    ]


def _lines(tile: Tile) -> list[dict[str, str]]:
    """Return the landmark image's lines on this face as SVG paths in pixels of the crop."""
    return [
        {
            "path": "M"
            + "L".join(f"{x:.1f} {y:.1f}" for x, y in tile.landmarks[list(line.points)])
            + "Z" * line.closed,
            "colour": "#{:02x}{:02x}{:02x}".format(*line.colour),
        }
        for line in polylines(RasterConfig())
    ]


def _refused(gallery: PreviewSample) -> dict[str, list[dict[str, Any]]]:
    """Return the rejected clips to show, by code."""
    shown: dict[str, list[dict[str, Any]]] = {}
    for row in gallery.rejects:
        if row["shown"]:
            shown.setdefault(row["code"], []).append({**row, "measures": _measures(row)})
    return shown


def _measures(row: Mapping[str, Any]) -> str:
    parts: list[str] = []
    if row["frames_seen"] is not None:
        of = "" if row["frames_with_face"] is None else f"face in {row['frames_with_face']} of "
        parts.append(f"{of}{row['frames_seen']} frames")
    if row["face_size"] is not None:
        parts.append(f"{short(row['face_size'])} px")
    if row["sharpness"] is not None:
        parts.append(f"sharpness {short(row['sharpness'])}")
    return " · ".join(parts)


def _histograms(gallery: PreviewSample) -> list[tuple[str, str, Histogram | None]]:
    charts = [
        (title, unit, histogram(gallery.numbers[name], logarithmic=name == "sharpness"))
        for title, unit, name in _CHARTS
    ]
    sizes = np.array([row["face_size"] for row in gallery.rejects if row["face_size"] is not None], dtype=np.float64)
    return [
        *charts,
        ("Frames per clip", "", histogram(gallery.frames_per_clip, whole=True)),
        ("Face size of refused clips", "px", histogram(sizes)),
    ]


def _sampled(manifest: DatasetManifest, gallery: PreviewSample, seed: int) -> str:
    every = gallery.num_shards == len(manifest.shards)
    shards = f"all {gallery.num_shards:,}" if every else f"{gallery.num_shards:,} of {len(manifest.shards):,}"
    clips = f"{len(gallery.strips):,} of {manifest.counts.get('done', 0):,} clips"
    return f"Sampled from {shards} shards: {clips}, chosen with seed {seed}."
