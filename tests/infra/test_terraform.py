"""The Terraform files parse, and what they name exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import hcl2
import pytest
from kustomize import build

FOLDER = Path(__file__).parents[2] / "infra" / "terraform"
FILES = sorted(FOLDER.glob("*.tf"))
TEXT = "\n".join(re.sub(r"#.*", "", path.read_text()) for path in FILES)


def bare(name: str) -> str:
    return name.strip('"')


def blocks(kind: str) -> dict[str, dict[str, Any]]:
    """Return all blocks of a kind, by `type.name` for resources."""
    found: dict[str, dict[str, Any]] = {}
    for path in FILES:
        with path.open() as file:
            for block in hcl2.load(file).get(kind, []):
                for first, rest in block.items():
                    if kind == "resource":
                        found |= {
                            f"{bare(first)}.{bare(name)}": body for name, body in rest.items() if name[:2] != "__"
                        }
                    elif first[:2] != "__":
                        found[bare(first)] = rest
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_parse_and_are_indented_alike(path: Path) -> None:
    with path.open() as file:
        assert hcl2.load(file)
    for line in path.read_text().splitlines():
        assert line == line.rstrip()
        assert (len(line) - len(line.lstrip(" "))) % 2 == 0
        assert "\t" not in line


def test_variables_are_described_typed_and_used() -> None:
    variables = blocks("variable")
    used = set(re.findall(r"\bvar\.(\w+)", TEXT))
    assert used == set(variables)
    assert all({"description", "type"} <= set(body) for body in variables.values())


def test_resources_that_are_referred_to_exist() -> None:
    referred = set(re.findall(r"\b((?:google|random)_\w+\.\w+)", TEXT))
    assert referred <= set(blocks("resource"))
    assert len(referred) > 8


def test_nothing_is_open_to_the_world() -> None:
    bucket = blocks("resource")["google_storage_bucket.main"]
    assert bare(bucket["public_access_prevention"]) == "enforced"
    assert bucket["uniform_bucket_level_access"] is True
    assert "ipv4_enabled    = false" in TEXT
    assert "enable_private_nodes = true" in TEXT
    assert "allUsers" not in TEXT
    assert "0.0.0.0/0" not in TEXT
    assert not re.findall(r"roles/(?:owner|editor|\w+\.admin)\b", TEXT)


def test_pods_accounts_are_bound_to_accounts_that_are_made() -> None:
    """The annotations of Kubernetes' accounts name those of Terraform, which let them in."""
    (in_cluster,) = re.findall(r"in_cluster\s*= \[(.+)\]", TEXT)
    bound = {f"sfumato-{name}" for name in re.findall(r'"(\w+)"', in_cluster)}
    accounts = {document["metadata"]["name"]: document["metadata"] for document in build("base/accounts")}
    assert set(accounts) == bound
    for name, metadata in accounts.items():
        named = metadata["annotations"]["iam.gke.io/gcp-service-account"]
        assert named == f"{name}@my-project.iam.gserviceaccount.com"
