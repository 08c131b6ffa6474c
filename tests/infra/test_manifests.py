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
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from serving.service.config import DATABASE_VARIABLE, parse_config

INFRA = Path(__file__).parents[2] / "infra"
MANIFESTS = sorted((INFRA / "kuberay").glob("*.yaml"))
KUBERNETES = "1.34"
NAME = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class AuthOptions(Strict):
    mode: Literal["token"]


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


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in MANIFESTS:
        for document in yaml.safe_load_all(path.read_text()):
            yield f"{path.name}:{document['kind']}", document


DOCUMENTS = dict(documents())


def cluster_of(document: dict[str, Any]) -> RayClusterSpec | None:
    if document["kind"] == "RayJob":
        return RayJobSpec.model_validate(document["spec"]).rayClusterSpec
    if document["kind"] == "RayService":
        return RayServiceSpec.model_validate(document["spec"]).rayClusterConfig
    return None


CLUSTERS = {name: cluster for name, document in DOCUMENTS.items() if (cluster := cluster_of(document))}
TEMPLATES = {
    f"{name}/{group}": template
    for name, cluster in CLUSTERS.items()
    for group, template in (
        ("head", cluster.headGroupSpec.template),
        *((worker.groupName, worker.template) for worker in cluster.workerGroupSpecs),
    )
}


def test_both_ray_kinds_are_there() -> None:
    assert {document["kind"] for document in DOCUMENTS.values()} >= {"RayJob", "RayService"}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_document_is_what_its_kind_allows(name: str) -> None:
    document = DOCUMENTS[name]
    if cluster_of(document) is None:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    else:
        assert document["apiVersion"] == "ray.io/v1"
        assert set(document) == {"apiVersion", "kind", "metadata", "spec"}


@pytest.mark.slow
@pytest.mark.parametrize("name", TEMPLATES)
def test_every_pod_template_is_valid(name: str) -> None:
    template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": TEMPLATES[name]}
    kubernetes_validate.validate(template, KUBERNETES, strict=True)


def test_the_check_of_pod_templates_notices_a_misspelt_field() -> None:
    template = {"spec": {"containers": [{"name": "x", "imagePullPolice": "Always"}]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template},
            KUBERNETES,
            strict=True,
        )


@pytest.mark.parametrize("name", TEMPLATES)
def test_pods_have_few_rights_and_a_large_shared_memory(name: str) -> None:
    spec = TEMPLATES[name]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    shared = next(volume for volume in spec["volumes"] if volume["name"] == "dshm")
    assert shared["emptyDir"]["medium"] == "Memory"
    for container in spec["containers"]:
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert {"name": "dshm", "mountPath": "/dev/shm"} in container["volumeMounts"]
        assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]}


@pytest.mark.parametrize("name", CLUSTERS)
def test_the_head_takes_no_work_and_gpus_are_declared_alike(name: str) -> None:
    cluster = CLUSTERS[name]
    assert cluster.headGroupSpec.rayStartParams["num-cpus"] == "0"
    for worker in cluster.workerGroupSpecs:
        assert worker.minReplicas <= worker.replicas <= worker.maxReplicas
        limits = worker.template["spec"]["containers"][0]["resources"]["limits"]
        assert worker.rayStartParams["num-gpus"] == limits["nvidia.com/gpu"]


@pytest.fixture(autouse=True)
def _database(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pods have it from a secret."""
    monkeypatch.setenv(DATABASE_VARIABLE, "postgresql://user@host/sfumato")


def serve_config() -> dict[str, Any]:
    service = next(document for document in DOCUMENTS.values() if document["kind"] == "RayService")
    config: dict[str, Any] = yaml.safe_load(service["spec"]["serveConfigV2"])
    return config


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")  # Ray's own, on import
def test_the_serve_configuration_is_one_to_ray_serve_and_to_us() -> None:
    from ray.serve.schema import ServeDeploySchema

    checked = ServeDeploySchema.model_validate(serve_config())
    assert set(serve_config()) <= set(ServeDeploySchema.model_fields)
    (application,) = checked.applications
    config = parse_config(application.args)
    assert not config.open, "a service in a cluster asks for its key"
    module, _, attribute = application.import_path.partition(":")
    assert callable(getattr(importlib.import_module(module), attribute))


def test_what_the_service_reads_is_mounted_in_its_worker() -> None:
    config = parse_config(serve_config()["applications"][0]["args"])
    (worker,) = CLUSTERS["rayservice.yaml:RayService"].workerGroupSpecs
    mounts = [Path(mount["mountPath"]) for mount in worker.template["spec"]["containers"][0]["volumeMounts"]]
    assert config.api_key_file is not None
    assert any(Path(config.api_key_file).is_relative_to(mount) for mount in mounts)
    variables = {variable["name"] for variable in worker.template["spec"]["containers"][0]["env"]}
    assert DATABASE_VARIABLE in variables
    assert "://" in config.data_dir, "pods share no folder"
    gpus = config.num_gpus * (config.num_finetuners + config.num_renderers)
    assert gpus <= worker.maxReplicas * float(worker.rayStartParams["num-gpus"])
