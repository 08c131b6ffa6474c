"""What each image installs, installed by its lock; its verbs are run by a user who may write nothing of it, if such a
user may run this Python."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.images

ROOT = Path(__file__).parents[2]
TORCH = "torch==2.13.0"
VERBS = {
    "pipelines": ("preprocess", "validate", "inspect"),
    "training": ("meta-train", "evaluate", "fine-tune", "synthesize"),
    "serving": ("animate", "serve", "pose"),
}
_NOBODY = 65534


@pytest.mark.parametrize("stage", VERBS)
def test_an_image_installs_by_its_lock_and_runs_its_verbs_as_another_user(
    stage: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp(stage)
    for above in (folder, *folder.parents[:2]):
        above.chmod(0o755)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
    pip = [python, "-m", "pip", "install", "--quiet"]
    uv = [python, "-m", "uv", "pip"]
    lock = ROOT / "infra" / "docker" / f"{stage}.lock"
    subprocess.run([*pip, "uv"], check=True)
    subprocess.run([*pip, TORCH], check=True)
    subprocess.run([*uv, "install", "--python", python, "--require-hashes", "--no-deps", "-r", lock], check=True)
    subprocess.run([*uv, "install", "--python", python, "--no-deps", ROOT], check=True)
    subprocess.run([*uv, "check", "--python", python], check=True)
    home = folder / "home"
    home.mkdir(mode=0o777)
    python_is_open = all(
        path.stat().st_mode & stat.S_IXOTH for path in [Path(sys.base_prefix), *Path(sys.base_prefix).parents]
    )
    user = {"user": _NOBODY, "group": _NOBODY} if os.geteuid() == 0 and python_is_open else {}
    for verb in VERBS[stage]:
        command = [python.parent / "sfumato", verb, "--help"]
        said = subprocess.run(command, cwd=home, env={"HOME": str(home)}, capture_output=True, text=True, **user)
        assert said.returncode == 0, (verb, said.stderr)
        assert f"sfumato {verb}" in said.stdout
