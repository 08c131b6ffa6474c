"""`sfumato verify` through the real command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from credentials.signed_media import key_of, picture, signed_by_another

from pipelines.dataset.reader import ShardDataset
from pipelines.provenance.development_certificate import make
from pipelines.provenance.marks import Ingredient, Provenance, marked
from training.config import TrainConfig
from training.episodes.source import open_source

Run = Callable[..., subprocess.CompletedProcess[str]]

_PROVENANCE = Provenance(
    (Ingredient("portrait", "mona.jpg", "a" * 64),),
    model="c" * 64,
    dataset_digest="d" * 64,
    command="sfumato pose mona.jpg -o still.png --smile 1",
)


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, str]:
    """Environment that names a key of the test's own; in the folder: ours.png, cut.png, other.png, plain.png."""
    key, other = key_of(make(), tmp_path, "own"), key_of(make(), tmp_path, "other")
    ours = marked(picture("png"), "ours.png", _PROVENANCE, key)
    cut = marked(picture("jpg"), "cut.jpg", _PROVENANCE, key)[:-1]
    files = {"ours.png": ours, "cut.jpg": cut, "plain.png": picture("png")}
    for name, data in {**files, "other.png": signed_by_another(picture("png"), "image/png", other)}.items():
        (tmp_path / name).write_bytes(data)
    pem = str(tmp_path / "own.pem")
    return {"SFUMATO_C2PA_CERT": pem, "SFUMATO_C2PA_KEY": pem, "MLFLOW_TRACKING_URI": ""}


@pytest.mark.slow
def test_each_verdict_in_plain_words_and_by_exit_code(
    run_sfumato: Run, pictures: dict[str, str], tmp_path: Path
) -> None:
    done = run_sfumato("verify", "ours.png", folder=tmp_path, environment=pictures)
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert said[0] == "ours.png: ours and whole"
    assert f"  model: {'c' * 64}" in said
    assert f"  made from: mona.jpg (portrait, sha256 {'a' * 64})" in said
    (tmp_path / "text.mp4").write_text("no film")
    names = ("ours.png", "cut.jpg", "other.png", "text.mp4", "plain.png")
    done = run_sfumato("verify", *names, "--lineage", "--json", folder=tmp_path, environment=pictures)
    assert done.returncode == 1
    assert done.stderr == (
        "sfumato verify: error: 4 of 5 files are not whole films or pictures of ours: "
        "cut.jpg: altered since Sfumato signed it (assertion.dataHash.mismatch); "
        "other.png: whole, with credentials of somebody else: Camera, signed by Sfumato development certificate"
        " (untrusted); "
        "text.mp4: no credentials, and no film or picture of a kind that is known here; and 1 more\n"
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    assert [file["state"] for file in answer["files"]] == ["ours", "altered", "another's", "none", "none"]
    assert answer["counts"] == {"ours": 1, "altered": 1, "another's": 1, "none": 2}
    lineage = answer["files"][0]["lineage"]
    assert lineage["make_it_again"] == _PROVENANCE.command
    assert lineage["MLflow"].startswith("not asked: MLFLOW_TRACKING_URI is not set")


@pytest.mark.slow
def test_mistakes_are_one_line(run_sfumato: Run, pictures: dict[str, str], tmp_path: Path) -> None:
    other = {**pictures, "SFUMATO_C2PA_KEY": str(tmp_path / "other.pem")}
    missing = {**pictures, "SFUMATO_C2PA_CERT": str(tmp_path / "none.pem")}
    half = {"SFUMATO_C2PA_CERT": str(tmp_path / "own.pem"), "SFUMATO_C2PA_KEY": ""}
    (tmp_path / "text.pem").write_text("text")
    own, verify = tmp_path / "own.pem", ("verify", "ours.png")
    pose = ("pose", "plain.png", "-o", "out.png")
    wrong_key = f"{tmp_path}/other.pem is not the key of the first certificate in {own}"
    cases = [
        (("verify", "none.mp4"), pictures, "none.mp4 does not exist", 2),
        (("verify", "."), pictures, ". is a folder, not a file", 1),
        ((*verify, "--trust", "text.pem"), pictures, "text.pem holds no certificates in PEM", 1),
        (verify, other, wrong_key, 1),
        (pose, other, wrong_key, 1),
        (pose, missing, f"{tmp_path}/none.pem does not exist", 2),
        (("animate", "-s", "plain.png", "-d", "x.mp4", "-o", "out"), other, wrong_key, 1),
        (pose, half, "SFUMATO_C2PA_CERT is set and SFUMATO_C2PA_KEY is not: signing needs both", 1),
    ]
    for arguments, environment, message, code in cases:
        done = run_sfumato(*arguments, folder=tmp_path, environment=environment)
        assert (done.stderr, done.returncode) == (f"sfumato {arguments[0]}: error: {message}\n", code)
    assert not (tmp_path / "out.png").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_lineage_follows_the_run_to_model_and_data_set(
    run_sfumato: Run,
    pictures: dict[str, str],
    tmp_path: Path,
    mlflow_uri: str,
    make_dataset: Callable[..., ShardDataset],
    tiny_train: Callable[..., TrainConfig],
) -> None:
    from mlflow.entities import Dataset, DatasetInput
    from mlflow.tracking import MlflowClient

    root = make_dataset("ann/v1", "bob/v1").root
    client = MlflowClient(mlflow_uri)
    tags = {"command": "sfumato meta-train small", "code_version": "0.1.0"}
    tags["dataset_digest"] = open_source(root, tiny_train()).facts.digest
    run_id = client.create_run("0", tags=tags).info.run_id
    source = json.dumps({"uri": root})
    client.log_inputs(run_id, [DatasetInput(Dataset("shards", "d", source_type="fsspec", source=source))])
    client.set_terminated(run_id)
    key = key_of((tmp_path / "own.pem").read_bytes(), tmp_path, "own")
    for name, of in (("run.png", run_id), ("gone.png", "0" * 32)):
        data = marked(picture("png"), name, replace(_PROVENANCE, mlflow_run=of), key)
        (tmp_path / name).write_bytes(data)
    flags = ("--lineage", "--mlflow", mlflow_uri)
    done = run_sfumato("verify", "run.png", "gone.png", *flags, folder=tmp_path, environment=pictures)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert f"  trained by: MLflow run {run_id}" in said
    assert f"  MLflow run: {run_id} at {mlflow_uri}, experiment Default, finished" in said
    assert "  train it again: sfumato meta-train small (version 0.1.0)" in said
    (data_set,) = [line for line in said if line.startswith("  data set: /")]
    assert "it is there: 2 clips" in data_set
    assert "  MLflow: it has no such run" in said
