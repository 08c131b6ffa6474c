"""Alerts and dashboard: every metric exists, every alert has its runbook."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kustomize import KUBERNETES, build, kinds

from serving.service.http.routes import metrics

ROOT = Path(__file__).parents[2]
FOLDER = KUBERNETES / "base" / "monitoring"
RULES = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["spec"]["groups"] for rule in group["rules"]
]
PANELS = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
QUERIES = [rule["expr"] for rule in RULES] + [target["expr"] for panel in PANELS for target in panel["targets"]]
_GAUGES = {"sfumato_jobs_waiting", "sfumato_jobs_running", "sfumato_oldest_waiting_job_seconds"}


def rays_metrics() -> str:
    """The source that names the metrics of Ray's nodes."""
    (package,) = importlib.util.find_spec("ray").submodule_search_locations or [""]  # type: ignore[union-attr]
    return (Path(package) / "dashboard" / "modules" / "reporter" / "reporter_agent.py").read_text()


@pytest.mark.parametrize("query", QUERIES)
def test_every_metric_and_label_of_a_query_exists(query: str) -> None:
    counters = {f"sfumato_{name}_total": labels for name, (_, labels) in metrics._COUNTERS.items()}
    ours = set(re.findall(r"\bsfumato_\w+", query))
    assert ours <= _GAUGES | set(counters)
    for name in set(re.findall(r"\bray_(\w+)", query)):
        assert f'"{name}"' in rays_metrics(), name
    assert ours or "ray_" in query
    known = {"kind"}.union(*(counters.get(name, ()) for name in ours)) | {"instance"}
    for used in re.findall(r"by \(([^)]+)\)", query) + re.findall(r"on \(([^)]+)\)", query):
        assert {label.strip() for label in used.split(",")} <= known
    assert query.count("(") == query.count(")")
    assert all(letter not in query for letter in "\n\t")


def test_the_gauges_are_those_that_the_service_reports() -> None:
    source = Path(metrics.__file__).read_text()
    assert set(re.findall(r'"(sfumato_\w+)"', source)) == _GAUGES


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
    assert json.loads(dashboard["data"]["dashboard.json"])["panels"] == PANELS
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in PANELS]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_the_services_metrics_are_asked_for_with_its_key() -> None:
    (endpoint,) = kinds("base/monitoring")["PodMonitor/sfumato-serve"]["spec"]["podMetricsEndpoints"]
    service = kinds("overlays/cpu/serve")["RayService/sfumato"]["spec"]["rayClusterConfig"]
    template = service["workerGroupSpecs"][0]["template"]["spec"]
    (secret,) = (volume["secret"] for volume in template["volumes"] if "secret" in volume)
    credentials = endpoint["authorization"]["credentials"]
    assert credentials == {"name": secret["secretName"], "key": secret["items"][0]["key"]}
    assert endpoint["port"] in {port["name"] for port in template["containers"][0]["ports"]}
