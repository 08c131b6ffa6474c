"""Every command in Dockerfiles, manifests and scripts exists, with each of its flags; and what images promise."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import sfumato

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
DOCKERFILES = sorted(INFRA.rglob("*Dockerfile"))
COMPOSE = INFRA / "mlflow" / "compose.yaml"
FLAGS_OF_BEAM = {
    "--project",
    "--region",
    "--number_of_worker_harness_threads",
    "--temp_location",
    "--staging_location",
    "--sdk_container_image",
    "--sdk_location",
    "--service_account_email",
    "--no_use_public_ips",
    "--machine_type",
    "--disk_size_gb",
    "--max_num_workers",
    "--autoscaling_algorithm",
    "--experiments",
}


def commands(path: Path) -> list[list[str]]:
    """The `sfumato ...` command lines of a file, comments left out, continued lines joined."""
    text = path.read_text()
    if path.suffix == ".yaml":
        text = "\n".join(chain.from_iterable(map(entrypoints, yaml.safe_load_all(text))))
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found = re.findall(r"(?:^|RUN |exec |&& )\s*(sfumato [^&|\n]+)", joined, flags=re.MULTILINE)
    return [shlex.split(command)[1:] for command in found]


def entrypoints(document: dict[str, Any]) -> Iterator[str]:
    """Yield the entrypoint of a manifest, and those that a kustomization's patches set."""
    if isinstance(spec := document.get("spec"), dict) and "entrypoint" in spec:
        yield spec["entrypoint"]
    for patch in document.get("patches", []):
        yield from (
            change["value"] for change in yaml.safe_load(patch["patch"]) if change["path"] == "/spec/entrypoint"
        )


FILES = [*DOCKERFILES, *INFRA.rglob("*.sh"), *INFRA.rglob("*.yaml")]
COMMANDS = [(path, command) for path in FILES for command in commands(path)]


def test_every_stage_is_covered() -> None:
    assert {path.name for path, _ in COMMANDS} >= {
        "pipelines.Dockerfile",
        "training.Dockerfile",
        "serving.Dockerfile",
        "launch.sh",
        "rayjob.yaml",
        "kustomization.yaml",
    }


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[f"{p.name}:{c[0]}" for p, c in COMMANDS])
def test_every_command_exists_with_all_its_flags(path: Path, command: list[str]) -> None:
    verb, *arguments = command
    arguments = [argument for argument in arguments if argument not in sfumato.FLAGS_OF_EVERY_VERB and argument != "$@"]
    options = importlib.import_module(sfumato.VERBS[verb].module).Options
    with contextlib.redirect_stderr(io.StringIO()):
        parsed: tuple[Any, list[str]] = tyro.cli(options, args=arguments, return_unknown_args=True)
    unknown = {argument for argument in parsed[1] if argument.startswith("-")}
    assert unknown <= (FLAGS_OF_BEAM if verb == "preprocess" else set())


def test_a_users_flags_win_over_the_scripts_own(tmp_path: Path) -> None:
    """A GPU needs another machine than the script's E2, which takes none: the last of two flags counts."""
    (tmp_path / "sfumato").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "sfumato").chmod(0o755)
    given = ["--machine_type", "n1-standard-4", "--detector", "face-alignment"]
    said = subprocess.run(
        [INFRA / "dataflow" / "launch.sh", "gs://b/src", "gs://b/out", *given],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "PROJECT": "p", "REGION": "r", "BUCKET": "b"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")[:-1]
    assert said[:3] == ["preprocess", "gs://b/src", "gs://b/out"]
    for flag, value in zip(given[::2], given[1::2], strict=True):
        last = len(said) - 1 - said[::-1].index(flag)
        assert said[last + 1] == value


@pytest.mark.slow
def test_the_flags_left_to_beam_are_beams() -> None:
    from apache_beam.options.pipeline_options import PipelineOptions

    pieces = next(command for path, command in COMMANDS if path.name == "launch.sh")
    given = [argument for argument in pieces if argument in FLAGS_OF_BEAM]
    assert set(given) == FLAGS_OF_BEAM
    after = pieces[pieces.index("DataflowRunner") + 1 :]
    flags = [re.sub(r"\$\w+", "1", piece) for piece in after if piece != "$@"]
    known = PipelineOptions(flags).get_all_options(drop_default=True)
    for flag in given:
        assert flag.removeprefix("--").removeprefix("no_") in known, flag


def test_a_job_has_no_name_of_its_own_start_and_a_core_one_thread() -> None:
    """A job of the same name is found again and not begun twice."""
    flags = next(command for path, command in COMMANDS if path.name == "launch.sh")
    assert "--job_name" not in flags
    assert flags[flags.index("--number_of_worker_harness_threads") + 1] == "1"


def test_the_image_of_the_flex_template_has_its_launcher_and_its_program() -> None:
    text = (INFRA / "docker" / "pipelines.Dockerfile").read_text()
    (program,) = re.findall(r"^ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/opt/sfumato/(\S+)$", text, flags=re.MULTILINE)
    assert (ROOT / program).exists()
    assert re.search(r"^COPY --from=\S+:\S+ (\S+/python_template_launcher) \1$", text, flags=re.MULTILINE)


def test_assets_baked_into_images_are_in_the_catalogue() -> None:
    from pipelines.assets.catalogue import ASSETS

    for _, (verb, *arguments) in COMMANDS:
        if verb == "assets":
            assert set(arguments[1:]) <= set(ASSETS)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["training", "serving"])
def test_an_image_holds_what_training_and_fine_tuning_would_fetch(stage: str) -> None:
    """Its user cannot write the cache, and a cluster may reach no registry."""
    from pipelines.faces import person_matte
    from training.checkpoints.bundle import load_bundle
    from training.checkpoints.shipped import named_or_shipped
    from training.losses import face_identity

    (fetched,) = [set(command[2:]) for path, command in COMMANDS if path.name == f"{stage}.Dockerfile"]
    config = load_bundle(named_or_shipped(None)).config
    assert config.losses.identity
    assert fetched >= {"face_landmarker", person_matte.WEIGHTS, face_identity.WEIGHTS, f"lpips_{config.perceptual}"}


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["training", "serving"])
def test_python_in_an_image_runs(stage: str) -> None:
    (script,) = re.findall(r'python -c "(.+)"', (INFRA / "docker" / f"{stage}.Dockerfile").read_text())
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_are_pinned_and_refuse_pickles(path: Path) -> None:
    text = path.read_text()
    (base,) = re.findall(r"^FROM (\S+)$", text, flags=re.MULTILINE)
    assert ":" in base
    assert not base.endswith(":latest")
    assert "MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false" in text
    if path.name != "pipelines.Dockerfile":  # Dataflow needs root; the file says why
        assert re.search(r"^USER \d+$", text, flags=re.MULTILINE)


_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", flags=re.MULTILINE)


def _lock(stage: str) -> str:
    return (INFRA / "docker" / f"{stage}.lock").read_text()


def _needed(project: dict[str, Any], extra: str) -> Iterator[Requirement]:
    """Yield what the project and one of its extras need, those that the extra names included."""
    for line in project["dependencies"]:
        yield Requirement(line)
    names, seen = [extra], set[str]()
    while names:
        for line in project["optional-dependencies"][name := names.pop()]:
            requirement = Requirement(line)
            if requirement.name == "sfumato":
                names += requirement.extras - seen
            else:
                yield requirement
        seen.add(name)


@pytest.mark.parametrize("stage", ["pipelines", "training", "serving"])
def test_an_image_installs_its_extra_by_the_lock_file(stage: str) -> None:
    text = (INFRA / "docker" / f"{stage}.Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"--require-hashes --no-deps -r {stage}.lock" in text
    locked = {canonicalize_name(name): version for name, version in _PINNED.findall(_lock(stage))}
    for requirement in _needed(project, f"{stage}-image"):
        if requirement.name != "torch" and (requirement.marker is None or requirement.marker.evaluate()):
            assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), requirement
    torch = next(line for line in project["dependencies"] if line.startswith("torch=="))
    assert torch in text
    for copied in re.findall(r"^COPY (?!--from=)(.+) \S+$", text, flags=re.MULTILINE):
        assert all((ROOT / name).exists() for name in copied.split())


def test_the_beam_image_and_its_entrypoint_fit_the_locked_beam() -> None:
    text = (INFRA / "docker" / "pipelines.Dockerfile").read_text()
    (locked,) = re.findall(r"^apache-beam==(\S+)", _lock("pipelines"), flags=re.MULTILINE)
    assert f"FROM apache/beam_python3.11_sdk:{locked}\n" in text
    assert text.rstrip().endswith('ENTRYPOINT ["/opt/apache/beam/boot"]')


def test_manifests_run_the_locked_ray() -> None:
    (locked,) = re.findall(r"^ray==(\S+)", _lock("training"), flags=re.MULTILINE)
    clusters = sorted((INFRA / "kubernetes").rglob("ray*.yaml"))
    assert len(clusters) == 3
    for path in clusters:
        assert re.findall(r'rayVersion: "(.+)"', path.read_text()) == [locked]
    for stage in ("training", "serving"):
        assert re.findall(r"^ray==(\S+)", _lock(stage), flags=re.MULTILINE) == [locked]


def test_compose_starts_mlflow_with_postgres_auth_and_known_hosts() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    assert set(compose) == {"name", "services", "volumes", "networks"}
    server = compose["services"]["mlflow"]
    flags = [argument.split("=", 1)[0] for argument in server["command"]]
    assert {"--app-name", "--backend-store-uri", "--allowed-hosts", "--artifacts-destination"} <= set(flags)
    assert server["depends_on"]["postgres"]["condition"] == "service_healthy"
    for service in compose["services"].values():
        named = [volume.split(":")[0] for volume in service["volumes"]]
        assert all(
            (INFRA / "mlflow" / name).exists() if name.startswith("./") else name in compose["volumes"]
            for name in named
        )
        assert set(service["networks"]) <= set(compose["networks"])
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # importing MLflow warns in several places of its own
def test_the_mlflow_server_knows_every_flag_of_compose() -> None:
    from mlflow.cli import server

    known = {name for parameter in server.params for name in parameter.opts}
    command = yaml.safe_load(COMPOSE.read_text())["services"]["mlflow"]["command"]
    assert command[:2] == ["mlflow", "server"]
    assert {argument.split("=", 1)[0] for argument in command[2:]} <= known


def test_the_mlflow_image_has_the_driver_that_its_database_url_means() -> None:
    from sqlalchemy import create_engine

    text = (INFRA / "mlflow" / "Dockerfile").read_text()
    (pinned,) = re.findall(r"sqlalchemy==(\d+\.\d+)", text)
    (ours,) = re.findall(r"^sqlalchemy==(\d+\.\d+)", _lock("training"), flags=re.MULTILINE)
    assert pinned == ours, "what postgresql:// means depends on SQLAlchemy's version"
    driver = create_engine("postgresql://postgres/mlflow").dialect.driver
    assert re.search(rf'"{driver}\[binary\]==', text)


def test_no_secret_stands_in_a_file() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    for service in compose["services"].values():
        for name, value in service["environment"].items():
            if name.endswith(("PASSWORD", "SECRET_KEY")):
                assert re.fullmatch(r"\$\{[A-Z_]+:\?.+\}", value), name


@pytest.mark.parametrize("path", sorted(INFRA.rglob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_executable_and_parse(path: Path) -> None:
    assert path.stat().st_mode & 0o111
    bash = shutil.which("bash")
    assert bash
    subprocess.run([bash, "-n", str(path)], check=True)


def test_infra_holds_no_python() -> None:
    assert not list(INFRA.rglob("*.py"))
