"""The Kubernetes manifests, checked offline: core kinds by Kubernetes' own schemas, Serve's configuration by Ray's, the
Ray kinds by the fields that KubeRay's API defines (ray.io/v1, KubeRay 1.5)."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import kubernetes_validate
import pytest
import yaml
from kustomize import FOLDERS, build, kinds
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from serving.service.config import DATABASE_VARIABLE, parse_config

KUBERNETES_VERSION = "1.34"
NAME = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class AuthOptions(Strict):
    mode: Literal["token"]


class FaultTolerance(Strict):
    redisAddress: str
    redisPassword: dict[str, Any]


class AutoscalerOptions(Strict):
    idleTimeoutSeconds: Annotated[int, Field(ge=60)]


class HeadGroup(Strict):
    rayStartParams: dict[str, str]
    serviceType: str | None = None
    template: dict[str, Any]


class WorkerGroup(HeadGroup):
    groupName: NAME
    replicas: Annotated[int, Field(ge=1)]
    minReplicas: Annotated[int, Field(ge=0)]
    maxReplicas: Annotated[int, Field(ge=1)]
    numOfHosts: int | None = None


class RayClusterSpec(Strict):
    rayVersion: Literal["2.60.0"]
    authOptions: AuthOptions
    gcsFaultToleranceOptions: FaultTolerance | None = None
    autoscalerOptions: AutoscalerOptions | None = None
    headGroupSpec: HeadGroup
    workerGroupSpecs: list[WorkerGroup]
    enableInTreeAutoscaling: bool | None = None


class RayJobSpec(Strict):
    entrypoint: str
    submissionMode: Literal["K8sJobMode", "HTTPMode", "SidecarMode"]
    backoffLimit: Annotated[int, Field(ge=0)]
    shutdownAfterJobFinishes: bool
    ttlSecondsAfterFinished: Annotated[int, Field(ge=0)]
    activeDeadlineSeconds: int | None = None
    rayClusterSpec: RayClusterSpec


class UpgradeStrategy(Strict):
    type: Literal["None", "NewCluster"]


class RayServiceSpec(Strict):
    upgradeStrategy: UpgradeStrategy
    serveConfigV2: str
    rayClusterConfig: RayClusterSpec


def cluster_of(document: dict[str, Any]) -> RayClusterSpec | None:
    if document["kind"] == "RayJob":
        return RayJobSpec.model_validate(document["spec"]).rayClusterSpec
    if document["kind"] == "RayService":
        return RayServiceSpec.model_validate(document["spec"]).rayClusterConfig
    return None


def clusters(folder: str) -> Iterator[RayClusterSpec]:
    return filter(None, map(cluster_of, build(folder)))


def templates(folder: str) -> Iterator[dict[str, Any]]:
    """Yield the pod templates of a folder's Ray clusters, heads first."""
    for cluster in clusters(folder):
        yield cluster.headGroupSpec.template
        yield from (worker.template for worker in cluster.workerGroupSpecs)


def container(template: dict[str, Any]) -> dict[str, Any]:
    (only,) = template["spec"]["containers"]
    return dict(only)


RAY_FOLDERS = [folder for folder in FOLDERS if folder.startswith("overlays/")]


def test_every_workload_has_each_overlay() -> None:
    workloads = {"meta-train", "animate", "serve"}
    assert set(RAY_FOLDERS) == {f"overlays/{kind}/{name}" for kind in ("cpu", "gpu", "spot") for name in workloads}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_document_is_what_its_kind_allows(folder: str) -> None:
    for document in build(folder):
        if document["apiVersion"] == "monitoring.coreos.com/v1":
            continue  # tests/infra/test_monitoring.py
        if cluster_of(document) is None:
            kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)
        else:
            assert document["apiVersion"] == "ray.io/v1"
            assert set(document) == {"apiVersion", "kind", "metadata", "spec"}


@pytest.mark.parametrize("folder", RAY_FOLDERS)
def test_every_pod_template_is_valid(folder: str) -> None:
    for template in templates(folder):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template}
        kubernetes_validate.validate(pod, KUBERNETES_VERSION, strict=True)


def test_the_check_of_pod_templates_notices_a_misspelt_field() -> None:
    template = {"spec": {"containers": [{"name": "x", "imagePullPolice": "Always"}]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template},
            KUBERNETES_VERSION,
            strict=True,
        )


@pytest.mark.parametrize("folder", RAY_FOLDERS)
def test_pods_have_few_rights_and_a_large_shared_memory(folder: str) -> None:
    (cluster,) = clusters(folder)
    for number, template in enumerate(templates(folder)):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        scales = number == 0 and bool(cluster.enableInTreeAutoscaling)  # the head, with the autoscaler beside it
        assert spec["automountServiceAccountToken"] is scales
        shared = next(volume for volume in spec["volumes"] if volume["name"] == "dshm")
        assert shared["emptyDir"]["medium"] == "Memory"
        only = container(template)
        assert only["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert {"name": "dshm", "mountPath": "/dev/shm"} in only["volumeMounts"]
        assert only["resources"]["requests"]["memory"] == only["resources"]["limits"]["memory"]
        assert {mount["name"] for mount in only["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


@pytest.mark.parametrize("folder", RAY_FOLDERS)
def test_images_come_from_the_registry_with_a_version(folder: str) -> None:
    for template in templates(folder):
        assert container(template)["image"].startswith("registry.example.com/sfumato/")
        assert container(template)["image"].endswith(":0.1.0")


@pytest.mark.parametrize("folder", RAY_FOLDERS)
def test_the_head_takes_no_work_and_gpus_are_declared_alike(folder: str) -> None:
    has_gpus = "cpu" not in folder
    for cluster in clusters(folder):
        assert cluster.headGroupSpec.rayStartParams["num-cpus"] == "0"
        for worker in cluster.workerGroupSpecs:
            assert worker.minReplicas <= worker.replicas <= worker.maxReplicas
            resources, spec = container(worker.template)["resources"], worker.template["spec"]
            assert worker.rayStartParams.get("num-gpus") == resources["limits"].get("nvidia.com/gpu")
            assert resources["requests"].get("nvidia.com/gpu") == ("1" if has_gpus else None)
            assert has_gpus == any(taint["key"] == "nvidia.com/gpu" for taint in spec.get("tolerations", []))
            assert ("spot" in folder) == ("nodeSelector" in spec)


@pytest.mark.parametrize("folder", RAY_FOLDERS)
def test_ray_drains_for_as_long_as_a_pod_may_take_to_end(folder: str) -> None:
    for cluster in clusters(folder):
        for worker in cluster.workerGroupSpecs:
            variables = {each["name"]: each.get("value") for each in container(worker.template)["env"]}
            drained = float(variables["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
            assert 5 <= worker.template["spec"]["terminationGracePeriodSeconds"] - drained <= 15


@pytest.mark.parametrize("folder", RAY_FOLDERS)
def test_the_workers_of_a_job_fit_into_its_pods(folder: str) -> None:
    for document in build(folder):
        if document["kind"] != "RayJob":
            continue
        words = document["spec"]["entrypoint"].split()
        (cluster,) = clusters(folder)
        (group,) = cluster.workerGroupSpecs
        per_pod = container(group.template)["resources"]["limits"]

        def flag(name: str, default: str, words: list[str] = words) -> float:
            return float(words[words.index(name) + 1]) if name in words else float(default)

        workers = flag("--workers", "1")
        gpus = flag("--gpus-per-worker", "1" if "--gpus" in words else "0")
        assert workers * flag("--cpus-per-worker", "1") <= group.maxReplicas * float(per_pod["cpu"])
        assert workers * gpus <= group.maxReplicas * float(per_pod.get("nvidia.com/gpu", 0))


def test_what_a_disruption_budget_counts_exists() -> None:
    documents = kinds("overlays/cpu/serve")
    selected = documents["PodDisruptionBudget/sfumato-serve"]["spec"]["selector"]["matchLabels"]
    (cluster,) = clusters("overlays/cpu/serve")
    labels = cluster.workerGroupSpecs[0].template["metadata"]["labels"]
    # KubeRay labels pods with the kind of their node.
    assert selected.items() <= (labels | {"ray.io/node-type": "worker"}).items()


@pytest.mark.parametrize("folder", FOLDERS)
def test_policies_admit_and_services_find_pods_that_exist(folder: str) -> None:
    ray = [template["metadata"]["labels"] for each in RAY_FOLDERS for template in templates(each)]
    own = [document for document in build(folder) if document["kind"] in ("Deployment", "StatefulSet")]
    labels = ray + [document["spec"]["template"]["metadata"]["labels"] for document in own]
    for document in build(folder):
        if document["kind"] == "NetworkPolicy":
            wanted = document["spec"]["podSelector"]["matchLabels"]
        elif document["kind"] == "Service":
            wanted = document["spec"]["selector"]
        else:
            continue
        assert any(wanted.items() <= each.items() for each in labels), document["metadata"]["name"]


def test_every_account_that_a_pod_runs_as_is_made() -> None:
    made = {document["metadata"]["name"] for document in build("base/accounts")}
    used = {template["spec"]["serviceAccountName"] for each in RAY_FOLDERS for template in templates(each)}
    (mlflow,) = (document for document in build("base/mlflow") if document["kind"] == "Deployment")
    assert used | {mlflow["spec"]["template"]["spec"]["serviceAccountName"]} == made


def test_mlflow_is_found_where_the_clusters_look_for_it() -> None:
    documents = kinds("base/mlflow")
    port = documents["Service/mlflow"]["spec"]["ports"][0]["port"]
    for folder in ("overlays/gpu/meta-train", "overlays/gpu/animate", "overlays/gpu/serve"):
        for template in list(templates(folder))[1:]:
            variables = {each["name"]: each.get("value") for each in container(template)["env"]}
            assert variables["MLFLOW_TRACKING_URI"] == f"http://mlflow:{port}"
    (server,) = documents["Deployment/mlflow"]["spec"]["template"]["spec"]["containers"]
    (hosts,) = (argument for argument in server["args"] if argument.startswith("--allowed-hosts="))
    assert f"mlflow:{port}" in hosts
    probe = server["readinessProbe"]["httpGet"]["httpHeaders"][0]["value"]
    assert probe in hosts, "MLflow refuses probes under another name"


@pytest.fixture(autouse=True)
def _database(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pods have it from a secret."""
    monkeypatch.setenv(DATABASE_VARIABLE, "postgresql://user@host/sfumato")


def serve_config(folder: str = "overlays/gpu/serve") -> dict[str, Any]:
    service = kinds(folder)["RayService/sfumato"]
    config: dict[str, Any] = yaml.safe_load(service["spec"]["serveConfigV2"])
    return config


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")  # Ray's own, on import
@pytest.mark.parametrize("folder", ["overlays/cpu/serve", "overlays/gpu/serve"])
def test_the_serve_configuration_is_one_to_ray_serve_and_to_us(folder: str) -> None:
    from ray.serve.schema import ServeDeploySchema

    checked = ServeDeploySchema.model_validate(serve_config(folder))
    assert set(serve_config(folder)) <= set(ServeDeploySchema.model_fields)
    (application,) = checked.applications
    config = parse_config(application.args)
    assert not config.open, "a service in a cluster asks for its key"
    module, _, attribute = application.import_path.partition(":")
    assert callable(getattr(importlib.import_module(module), attribute))


def test_what_the_service_reads_is_mounted_in_its_worker() -> None:
    config = parse_config(serve_config()["applications"][0]["args"])
    (cluster,) = clusters("overlays/gpu/serve")
    (worker,) = cluster.workerGroupSpecs
    mounts = [Path(mount["mountPath"]) for mount in worker.template["spec"]["containers"][0]["volumeMounts"]]
    assert config.api_key_file is not None
    assert any(Path(config.api_key_file).is_relative_to(mount) for mount in mounts)
    variables = {variable["name"] for variable in worker.template["spec"]["containers"][0]["env"]}
    assert DATABASE_VARIABLE in variables
    assert "://" in config.data_dir, "pods share no folder"
    gpus = config.num_gpus * (config.num_finetuners + config.num_renderers)
    assert gpus <= worker.maxReplicas * float(worker.rayStartParams["num-gpus"])
