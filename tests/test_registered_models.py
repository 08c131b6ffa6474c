"""Every verb that takes a base model takes one of the MLflow registry: all ask the same loader."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines import assets

PICTURE = str(Path(assets.__file__).parent / "data" / "mona_lisa.jpg")
NAME = "models:/sfumato-base@champion"
VERBS = (
    ("evaluate", NAME, "--data", "set", "-o", "out"),
    ("evaluate", "shipped", "--compare", f"other={NAME}", "--data", "set", "-o", "out"),
    ("export", NAME, "-o", "out"),
    ("fine-tune", PICTURE, "--model", NAME, "-o", "out"),
    ("animate", "-s", PICTURE, "-d", "driver.csv", "--model", NAME, "-o", "out"),
    ("animate", "-s", PICTURE, "-d", "driver.csv", "--model", NAME, "-o", "out", "--workers", "2"),
    ("pose", PICTURE, "-o", "out.png", "--model", NAME),
    ("serve", "--model", NAME, "--port", "8599"),
    ("bench", "render", "--model", NAME),
    ("bench", "serve", "--model", NAME),
    ("meta-train", "base", "--synthetic", "-o", "out", "--init-from", NAME),
)


@pytest.mark.long
def test_every_verb_looks_a_model_up_in_the_registry(
    run_sfumato: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "driver.csv").write_text("timecode,jawOpen\n0,0\n1,1\n")
    asks = "MLFLOW_TRACKING_URI is not set and there is no mlflow.db here: which registry?"
    for words in VERBS:
        done = run_sfumato(*words, folder=tmp_path, environment={"MLFLOW_TRACKING_URI": ""})
        assert done.returncode == 1, (words, done.stderr)
        assert done.stderr.splitlines()[-1].endswith(asks), (words, done.stderr)
    assert not (tmp_path / "mlflow.db").exists()
