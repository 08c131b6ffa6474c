"""The JSON and Markdown reports of an evaluation. docs/reference/evaluation-report.md documents the JSON's schema."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from training.evaluation.cross_reenactment import SHARED_AREA
from training.evaluation.metrics.frame_metrics import DRIVING, RECONSTRUCTION, Metric
from training.evaluation.metrics.frechet import FID
from training.evaluation.protocol import ProtocolConfig
from training.evaluation.results import SCHEMA_VERSION, Figure, Table, TableRow, VideoResult

# arXiv 1905.08233, tables 1 and 2: FID, SSIM, CSIM at T = 1, 8, 32.
PUBLISHED = (
    ("VoxCeleb1, FSTH", "43.0 / .67 / .15", "38.0 / .71 / .17", "29.5 / .74 / .19"),
    ("VoxCeleb1, X2Face", "45.8 / .68 / .16", "51.5 / .73 / .17", "56.5 / .75 / .18"),
    ("VoxCeleb1, Pix2pixHD", "42.7 / .56 / .09", "35.1 / .64 / .12", "24.0 / .70 / .16"),
    ("VoxCeleb2, FSTH-FF", "46.1 / .61 / .42", "42.2 / .64 / .47", "40.4 / .65 / .48"),
    ("VoxCeleb2, FSTH-FT", "48.5 / .64 / .35", "42.2 / .68 / .42", "30.6 / .72 / .45"),
)
WARNING = (
    "Published for VoxCeleb (FID / SSIM / CSIM), for orientation only: other data, other frames, another recogniser "
    "and, for FID, another network. None of these numbers compares with the tables above."
)
_SIGNS = {"higher": "↑", "lower": "↓", "near 1": "→1"}


@dataclass(frozen=True)
class Evaluation:
    """The content of a report."""

    model: str
    model_form: str
    """The model's architecture: with the warp prior, or the published form."""
    also: Mapping[str, str]
    """Further models: name -> location and architecture."""
    dataset: str
    dataset_digest: str
    image_size: int
    detector: str
    recogniser: str
    lpips_network: str
    frechet_name: str
    fid_weights_sha256: str | None
    protocol: ProtocolConfig
    skipped: Mapping[str, int]
    """For each T, the number of chosen videos with too few frames."""
    videos: tuple[VideoResult, ...]
    pairs: tuple[VideoResult, ...]
    tables: tuple[Table, ...]
    driven: Table | None
    paired: bool = False
    """Whether the tables are of cross-reenactment with a truth (training.evaluation.cross_reenactment)."""

    @property
    def unit(self) -> str:
        """What the tables' means are taken over."""
        return "pairs" if self.paired else "videos"

    @property
    def shared_area(self) -> float | None:
        """Mean percentage of a pair's frames that is measured."""
        shares = [video.rows[0].values[SHARED_AREA] for video in self.videos if self.paired]
        return sum(shares) / len(shares) if shares else None

    @property
    def unseen(self) -> str:
        """Description of the people in the frames."""
        if self.protocol.split == "train":
            return "hold-out frames of training videos: people and videos that the model was trained on"
        if self.protocol.split == "all":
            return "all people of the data set, whether the model was trained on them or not"
        return f"people of the split {self.protocol.split!r}, none of whom the model was trained on"


def to_json(evaluation: Evaluation) -> str:
    """Return indented JSON; what could not be measured is null."""
    plain = {
        "schema_version": SCHEMA_VERSION,
        **{name: getattr(evaluation, name) for name in ("model", "model_form", "dataset", "dataset_digest")},
        **{name: getattr(evaluation, name) for name in ("image_size", "detector", "recogniser", "lpips_network")},
        "also": dict(evaluation.also),
        "frechet": {"name": evaluation.frechet_name, "weights_sha256": evaluation.fid_weights_sha256},
        "protocol": asdict(evaluation.protocol),
        "frames_of": evaluation.unseen,
        "paired": evaluation.paired,
        "shared_area": evaluation.shared_area,
        "skipped": dict(evaluation.skipped),
        "metrics": {"reconstruction": [*map(asdict, RECONSTRUCTION)], "driving": [*map(asdict, DRIVING)]},
        "tables": [_plain_table(table) for table in evaluation.tables],
        "driving": _plain_table(evaluation.driven) if evaluation.driven else None,
        "videos": [_plain_video(video) for video in evaluation.videos],
        "pairs": [_plain_video(pair) for pair in evaluation.pairs],
    }
    return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain_table(table: Table) -> dict[str, Any]:
    rows = [
        {
            "method": row.method,
            "figures": {key: figure and _plain_figure(figure) for key, figure in row.figures.items()},
            "frechet": None if row.frechet is None else {"value": row.frechet, "frames": row.num_frames},
        }
        for row in table.rows
    ]
    return {"shots": table.num_shots, "videos": table.num_videos, "frames": table.num_frames, "rows": rows}


def _plain_figure(figure: Figure) -> dict[str, Any]:
    half = figure.half_width
    interval = None if half is None else [figure.mean - half, figure.mean + half]
    return {"mean": figure.mean, "interval_95": interval, "videos": figure.num}


def _plain_video(video: VideoResult) -> dict[str, Any]:
    rows = [
        {
            "shots": row.num_shots,
            "method": row.method,
            "values": {key: value if math.isfinite(value) else None for key, value in row.values.items()},
        }
        for row in video.rows
    ]
    return {"video": video.name, "driver": video.driver or None, "frames": video.num_frames, "rows": rows}


def flat(evaluation: Evaluation) -> dict[str, float]:
    """Return every mean by its name in MLflow, such as `evaluation/T8/warp_alone/lpips`."""
    named: dict[str, float] = {}
    kind = "paired/" if evaluation.paired else ""
    groups = [(f"{kind}T{table.num_shots}", table) for table in evaluation.tables]
    if evaluation.driven:
        groups.append(("driven", evaluation.driven))
    for group, table in groups:
        for row in table.rows:
            prefix = f"evaluation/{group}/{re.sub(r'[^A-Za-z0-9.-]+', '_', row.method)}"
            named |= {f"{prefix}/{key}": figure.mean for key, figure in row.figures.items() if figure}
            if row.frechet is not None:
                named[f"{prefix}/{'fid' if evaluation.frechet_name == FID else 'frechet_vgg16'}"] = row.frechet
    return named


def to_markdown(evaluation: Evaluation) -> str:
    """Return the tables as Markdown."""
    lines = [
        "# Evaluation",
        "",
        *(f"- {fact}" for fact in facts(evaluation)),
        "",
        f"Figures are means over {evaluation.unit}, ± half of a 95 % interval (Student's t over them; those of one "
        "person are not independent, so it is rather too narrow). ↑ higher is better, ↓ lower, →1 the nearer to 1.",
        "",
    ]
    for table in evaluation.tables:
        lines += [f"## T = {table.num_shots}", "", caption(table, evaluation.unit), ""]
        lines += [*_markdown_table(table, RECONSTRUCTION, evaluation.frechet_name), ""]
    if evaluation.driven:
        lines += ["## Driven by somebody else", "", caption(evaluation.driven, "videos"), ""]
        lines += [*_markdown_table(evaluation.driven, DRIVING, None), ""]
    lines += [
        "## What the columns say",
        "",
        *(f"- {line}" for line in meanings(evaluation)),
        "",
        "## Published",
        "",
        WARNING,
        "",
    ]
    lines += ["| set | T = 1 | T = 8 | T = 32 |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in PUBLISHED]
    return "\n".join(lines) + "\n"


def facts(evaluation: Evaluation) -> list[str]:
    """Return one line each on the model, the data and the metric networks."""
    protocol = evaluation.protocol
    lines = [
        f"Model: {evaluation.model} ({evaluation.model_form})",
        *(f"Also: {name}: {what}" for name, what in evaluation.also.items()),
        f"Data: {evaluation.dataset}, digest {evaluation.dataset_digest[:16]}; {evaluation.unseen}",
        *_paired_facts(evaluation),
        f"Everything is drawn and measured at {evaluation.image_size} x {evaluation.image_size} pixels, seed "
        f"{protocol.seed}, up to {protocol.num_videos} {evaluation.unit} with up to {protocol.num_frames} frames each",
        f"Landmarks: {evaluation.detector}; recogniser: {evaluation.recogniser}; LPIPS: {evaluation.lpips_network}",
    ]
    for shots, number in evaluation.skipped.items():
        if number:
            lines.append(f"T = {shots}: {number} {evaluation.unit} have too few frames and are left out of its table")
    return lines


def _paired_facts(evaluation: Evaluation) -> list[str]:
    if not evaluation.paired:
        return []
    return [
        "Paired: portraits of one person, driven by another doing a motion, against the first person doing it; "
        "landmarks are retargeted but in rows that say raw landmarks",
        f"{evaluation.shared_area:.1f} % of the pictures' area lies in both crops; the rest counts as equal",
    ]


def caption(table: Table, unit: str) -> str:
    """Return the numbers of videos and frames behind a table; `unit` is the plural."""
    return f"{table.num_videos} {unit.removesuffix('s') if table.num_videos == 1 else unit}, {table.num_frames} frames."


def columns(metrics: Sequence[Metric], frechet_name: str | None) -> list[str]:
    """Return the headers of a table, except the first."""
    frechet = [] if frechet_name is None else [f"{frechet_name} ↓"]
    return [
        *frechet,
        *(f"{metric.label}{f', {metric.unit}' if metric.unit else ''} {_SIGNS[metric.better]}" for metric in metrics),
    ]


def cells(row: TableRow, metrics: Sequence[Metric], *, with_frechet: bool) -> list[str]:
    """Return a method's figures as text, – for a missing one."""
    frechet = [] if not with_frechet else ["–" if row.frechet is None else f"{row.frechet:.3f}"]
    return [*frechet, *(_figure(row.figures.get(metric.key), metric.digits) for metric in metrics)]


def _figure(figure: Figure | None, digits: int) -> str:
    if figure is None:
        return "–"
    width = "" if figure.half_width is None else f" ± {figure.half_width:.{digits}f}"
    return f"{figure.mean:.{digits}f}{width}"


def _markdown_table(table: Table, metrics: Sequence[Metric], frechet_name: str | None) -> list[str]:
    headers = ["method", *columns(metrics, frechet_name)]
    rows = [[row.method, *cells(row, metrics, with_frechet=frechet_name is not None)] for row in table.rows]
    return [f"| {' | '.join(headers)} |", "|" + "---|" * len(headers), *(f"| {' | '.join(row)} |" for row in rows)]


def meanings(evaluation: Evaluation) -> list[str]:
    """Return one line of explanation per column."""
    frames = min((table.num_frames for table in evaluation.tables), default=0)
    lines = [f"{evaluation.frechet_name}: of the frames' features from the true frames', over {frames} frames or more"]
    lines += [f"{metric.label}: {metric.meaning}" for metric in RECONSTRUCTION]
    return lines + [f"driven: {metric.label}: {metric.meaning}" for metric in DRIVING if evaluation.driven]
