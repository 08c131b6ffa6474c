"""What the files around the code promise: make targets, lock file. What documents promise: see tests/docs."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def locked() -> dict[str, Version]:
    """Every package of requirements.lock and its version."""
    pins = re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    return {name: Version(version) for name, version in pins}


def test_make_help_explains_every_target() -> None:
    targets = re.findall(r"^\.PHONY: (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    page = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    explained = dict(re.findall(r"^  make (\S+) +(\S.*)$", page, re.MULTILINE))
    assert set(explained) == set(targets) > {"setup", "demo", "test", "check"}


def test_lock_leaves_torch_and_cuda_to_pip(locked: dict[str, Version]) -> None:
    assert "numpy" in locked
    # nvidia-ml-py asks a driver, where there is one, how busy its card is; it carries no CUDA.
    assert [name for name in locked if re.match(r"torch$|nvidia|triton|cuda", name)] == ["nvidia-ml-py"]


def test_lock_names_no_place_of_one_machine() -> None:
    assert re.findall(r"^.*(?:file:|--find-links|--index-url).*$", (ROOT / "requirements.lock").read_text(), re.M) == []


def test_lock_satisfies_the_project(locked: dict[str, Version]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in extras if extra != "dataflow" for line in extras[extra])]
    for requirement in map(Requirement, lines):
        if requirement.name not in ("sfumato", "torch"):
            assert locked[requirement.name.lower()] in requirement.specifier, requirement


def test_torch_of_the_makefile_is_the_projects() -> None:
    pin = re.search(r"^TORCH := (torch==\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert pin
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert pin[1] in project["project"]["dependencies"]
    assert f"torch=={project['tool']['uv']['dependency-metadata'][0]['version']}" == pin[1]
