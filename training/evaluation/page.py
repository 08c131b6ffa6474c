"""The HTML report of an evaluation, one self-contained page: tables, and frames of the best, median and worst video."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import jinja2
from markupsafe import Markup

from training.evaluation import report
from training.evaluation.metrics.frame_metrics import DRIVING, RECONSTRUCTION, Metric
from training.evaluation.report import Evaluation
from training.evaluation.results import Row, Table, VideoResult

_RANKED_METHOD = "ours"
_MAX_PAIRS = 8


@dataclass(frozen=True)
class Strip:
    """A row of frames (WebP) with a label and a note."""

    label: str
    note: str
    pictures: tuple[bytes, ...]


@dataclass(frozen=True)
class Case:
    """The frames of one video."""

    title: str
    name: str
    sets: tuple[tuple[str, tuple[Strip, ...]], ...]
    """A caption and the strips for each T."""


def render(evaluation: Evaluation) -> str:
    """Return the page; deterministic."""
    style = resources.files("training.evaluation").joinpath("data", "evaluation.css").read_text()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("training.evaluation", "data"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    return environment.get_template("evaluation.html.j2").render(
        evaluation=evaluation,
        facts=report.facts(evaluation),
        tables=[_table(table, RECONSTRUCTION, evaluation.frechet_name, evaluation.unit) for table in evaluation.tables],
        driven=_table(evaluation.driven, DRIVING, None, "videos") if evaluation.driven else None,
        meanings=report.meanings(evaluation),
        cases=_cases(evaluation.videos),
        pairs=[_pair(pair) for pair in evaluation.pairs[:_MAX_PAIRS]],
        num_pairs=len(evaluation.pairs),
        published=report.PUBLISHED,
        warning=report.WARNING,
        style=Markup(style),  # trusted: a file of this package
    )


def _table(table: Table, metrics: Sequence[Metric], frechet_name: str | None, unit: str) -> dict[str, object]:
    with_frechet = frechet_name is not None
    return {
        "shots": table.num_shots,
        "caption": report.caption(table, unit),
        "columns": report.columns(metrics, frechet_name),
        "rows": [(row.method, report.cells(row, metrics, with_frechet=with_frechet)) for row in table.rows],
    }


def _cases(videos: Sequence[VideoResult]) -> list[Case]:
    """Return the model's best, median and worst video by LPIPS, at the largest T."""
    ranked = sorted(videos, key=_lpips)
    places = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
    titles: dict[int, list[str]] = {}
    for title, place in places.items():
        titles.setdefault(place, []).append(title)
    return [_case(" and ".join(names), ranked[place]) for place, names in sorted(titles.items())] if ranked else []


def _lpips(video: VideoResult) -> float:
    return [row.values["lpips"] for row in video.rows if row.method == _RANKED_METHOD][-1]


def _case(title: str, video: VideoResult) -> Case:
    sets = []
    for number in sorted({row.num_shots for row in video.rows}):
        rows = [row for row in video.rows if row.num_shots == number and row.pictures]
        shots = video.shots[:number]
        shown = "" if len(shots) == number else f"{len(shots)} of {number}"
        strips = [Strip("shots", shown, shots)]
        strips += [Strip("driver", "", video.targets)] if video.driver else []
        strips += [Strip(row.method, f"LPIPS {row.values['lpips']:.3f}", row.pictures) for row in rows]
        sets.append((f"T = {number}", tuple(strips)))
    name = f"{video.name}, driven by {video.driver}" if video.driver else video.name
    return Case(title, name, tuple(sets))


def _pair(pair: VideoResult) -> Case:
    drawn: list[Row] = [row for row in pair.rows if row.pictures]
    strips = [Strip("portrait", "", pair.shots), Strip("driver", "", pair.targets)]
    strips += [Strip(row.method, f"CSIM {row.values['csim_source']:.2f}", row.pictures) for row in drawn]
    return Case("", f"{pair.name}, driven by {pair.driver}", (("", tuple(strips)),))
