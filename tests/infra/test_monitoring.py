"""Alerts and dashboard: every metric exists, every alert has its runbook."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from kustomize import KUBERNETES, build, kinds
from prometheus_client.core import Metric

from pipelines.dataset.report_metrics import ReportMetrics
from pipelines.dataset.shard_report import ShardReport
from pipelines.log_lines import LOG_FORMAT
from serving.batch.results.batch_metrics import BatchMetrics
from serving.batch.results.report import Report
from serving.service.http.routes import metrics
from training.meta_training.metrics import exported_metrics
from training.meta_training.metrics.exported_metrics import TrainingMetrics

ROOT = Path(__file__).parents[2]
FOLDER = KUBERNETES / "base" / "monitoring"
RULES = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["spec"]["groups"] for rule in group["rules"]
]
PANELS = [panel for panel in json.loads((FOLDER / "dashboard.json").read_text())["panels"] if panel["type"] != "row"]
QUERIES = [rule["expr"] for rule in RULES] + [target["expr"] for panel in PANELS for target in panel["targets"]]
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


class _JobsTable:
    """The jobs table of a service that has run one job of each state."""

    def counts(self, kind: str) -> SimpleNamespace:
        return SimpleNamespace(queued=0, running=0, oldest_s=0.0)

    def counters(self) -> dict[tuple[str, str], float]:
        return {
            ("jobs_ended", "video/done"): 1.0,
            ("job_failures", "video/lost"): 1.0,
            ("job_stage_seconds", "video/render"): 1.0,
            ("device_seconds", "video/cpu"): 1.0,
        }


def families(folder: Path) -> list[Metric]:
    """What every stage exports, once it has something to tell."""
    training = TrainingMetrics(9)
    training.update(1, dict.fromkeys((*exported_metrics._GAUGES, *exported_metrics._COUNTERS, "generator"), 1.0))
    reports = ReportMetrics()
    reports.add([ShardReport("train", 1, "", "", 1, 1, 0, 0, 9, 9, 1, "", "", "", {"no_face": 1}, {"decode": 1.0})])
    service: Any = metrics._Collector.__new__(metrics._Collector)
    service._service = SimpleNamespace(jobs=_JobsTable())
    collectors = (service, reports, training, BatchMetrics(Report(str(folder)), 3))
    return [family for collector in collectors for family in collector.collect()]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Every name that a query may use, with its labels."""
    return {
        f"{family.name}{suffix}": {label for sample in family.samples for label in sample.labels}
        for family in families(tmp_path_factory.mktemp("report"))
        for suffix in _SUFFIXES[family.type]
    }


def rays_metrics() -> str:
    """The source that names the metrics of Ray's nodes."""
    (package,) = importlib.util.find_spec("ray").submodule_search_locations or [""]  # type: ignore[union-attr]
    return (Path(package) / "dashboard" / "modules" / "reporter" / "reporter_agent.py").read_text()


@pytest.mark.parametrize("query", QUERIES)
def test_every_metric_and_label_of_a_query_exists(query: str, exported: dict[str, set[str]]) -> None:
    ours = set(re.findall(r"\bsfumato_\w+", query))
    assert ours <= set(exported)
    for name in set(re.findall(r"\bray_(\w+)", query)):
        assert f'"{name}"' in rays_metrics(), name
    assert ours or "ray_" in query
    known = {"instance"}.union(*(exported[name] for name in ours))
    for used in re.findall(r"by \(([^)]+)\)", query) + re.findall(r"on \(([^)]+)\)", query):
        assert {label.strip() for label in used.split(",")} <= known
    for label in re.findall(r"[{,](\w+)=", query):
        assert label in known
    assert query.count("(") == query.count(")")
    assert all(letter not in query for letter in "\n\t")


def test_every_metric_is_on_the_dashboard(exported: dict[str, set[str]]) -> None:
    shown = set(
        re.findall(r"\bsfumato_\w+", " ".join(target["expr"] for panel in PANELS for target in panel["targets"]))
    )
    missing = {name for name in exported if name not in shown}
    assert missing == {"sfumato_animate_video_seconds_sum", "sfumato_animate_video_seconds_count"}


def test_names_follow_the_conventions(tmp_path: Path) -> None:
    """https://prometheus.io/docs/practices/naming: a prefix, base units at the end, no type and no label in a name."""
    for family in families(tmp_path):
        assert re.fullmatch(r"sfumato_[a-z]+(_[a-z]+)*", family.name)
        assert family.documentation[0].isupper()
        assert not re.search(r"_(minutes|milliseconds|ms|percent|megabytes|count|gauge)$", family.name)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_has_a_runbook(rule: dict[str, Any]) -> None:
    page, _, anchor = rule["annotations"]["runbook_url"].rpartition("/")[2].partition("#")
    text = (ROOT / "docs" / "how-to" / page.replace(".html", ".md")).read_text()
    headings = [heading.lower() for heading in re.findall(r"^### (.+)$", text, flags=re.MULTILINE)]
    assert anchor in headings
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}


def test_runbooks_have_an_alert() -> None:
    text = (ROOT / "docs" / "how-to" / "watch.md").read_text()
    assert re.findall(r"^### (.+)$", text, flags=re.MULTILINE) == [rule["alert"] for rule in RULES]


def test_grafana_finds_the_dashboard_and_panels_do_not_overlap() -> None:
    (dashboard,) = (document for document in build("base/monitoring") if document["kind"] == "ConfigMap")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    panels = json.loads(dashboard["data"]["dashboard.json"])["panels"]
    assert [panel for panel in panels if panel["type"] != "row"] == PANELS
    places = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in panels
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == [
        "Service",
        "Preprocessing",
        "Meta-training",
        "Batches of videos",
        "Machines of Ray's clusters",
    ]


def test_the_services_metrics_are_asked_for_with_its_key() -> None:
    (endpoint,) = kinds("base/monitoring")["PodMonitor/sfumato-serve"]["spec"]["podMetricsEndpoints"]
    service = kinds("overlays/cpu/serve")["RayService/sfumato"]["spec"]["rayClusterConfig"]
    template = service["workerGroupSpecs"][0]["template"]["spec"]
    (secret,) = (volume["secret"] for volume in template["volumes"] if "secret" in volume)
    credentials = endpoint["authorization"]["credentials"]
    assert credentials == {"name": secret["secretName"], "key": secret["items"][0]["key"]}
    assert endpoint["port"] in {port["name"] for port in template["containers"][0]["ports"]}


@pytest.mark.parametrize("stage", ["meta-train", "animate"])
@pytest.mark.parametrize("overlay", ["cpu", "gpu", "spot"])
def test_a_jobs_metrics_are_where_prometheus_asks_for_them(stage: str, overlay: str) -> None:
    monitor = kinds("base/monitoring")["PodMonitor/sfumato-jobs"]["spec"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    documents = kinds(f"overlays/{overlay}/{stage}")
    job = documents[f"RayJob/sfumato-{stage}"]["spec"]
    template = job["rayClusterSpec"]["headGroupSpec"]["template"]
    port = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}[
        endpoint["port"]
    ]
    words = job["entrypoint"].split()
    assert words[words.index("--metrics-address") + 1] == f"0.0.0.0:{port}"
    (values,) = (rule["values"] for rule in monitor["selector"]["matchExpressions"])
    assert template["metadata"]["labels"]["app.kubernetes.io/component"] in values
    policy = documents[f"NetworkPolicy/sfumato-{stage}"]["spec"]["ingress"]
    (asked,) = (rule for rule in policy if "ports" in rule)
    assert {each["port"] for each in asked["ports"]} == {8080, port}


@pytest.mark.parametrize("stage", ["pipelines", "training", "serving"])
def test_an_images_messages_are_objects_for_the_log_of_a_cluster(stage: str) -> None:
    text = (ROOT / "infra" / "docker" / f"{stage}.Dockerfile").read_text()
    assert re.search(rf"^(ENV | +){LOG_FORMAT}=json", text, flags=re.MULTILINE)
