"""What kustomize makes of the manifests."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

KUBERNETES = Path(__file__).parents[2] / "infra" / "kubernetes"
FOLDERS = sorted(
    path.parent.relative_to(KUBERNETES).as_posix()
    for path in KUBERNETES.rglob("kustomization.yaml")
    if "components" not in path.parts
)
"""Every folder that `kubectl apply -k` takes."""


@cache
def build(folder: str) -> tuple[dict[str, Any], ...]:
    """Return the documents of one of `FOLDERS`; skip the test without kubectl."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run([kubectl, "kustomize", KUBERNETES / folder], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def kinds(folder: str) -> dict[str, dict[str, Any]]:
    """Return a folder's documents by kind and name."""
    return {f"{document['kind']}/{document['metadata']['name']}": document for document in build(folder)}
