"""Options of `sfumato serve`, and the errors that it reports before anything starts."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.commands.serve import Options, require_key, running, to_config
from serving.service.config import API_KEY_VARIABLE
from serving.service.state.database import Database
from serving.service.state.keys import ApiKeys
from training.checkpoints.bundle import load_bundle
from training.losses.perceptual_files import PerceptualFiles

KEY = "0123456789abcdef0123"


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)


@pytest.mark.slow
def test_paths_become_absolute_and_urls_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = to_config(Options("models:/sfumato-base@champion", "data", avatars="gs://bucket/avatars"))
    assert (config.model, config.data_dir, config.avatars) == (
        "models:/sfumato-base@champion",
        str(tmp_path / "data"),
        "gs://bucket/avatars",
    )
    assert to_config(Options("model")).model == str(tmp_path / "model")
    published = to_config(Options("m", vgg19="v.pth", vggface="gs://bucket/f.pth"))
    assert published.perceptual_files == PerceptualFiles(str(tmp_path / "v.pth"), "gs://bucket/f.pth")


def test_on_loopback_the_service_is_open_and_answers_loopback_names_only() -> None:
    config = to_config(Options("m"))
    assert config.open
    assert "*" not in config.allowed_hosts


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org"])
def test_beyond_loopback_a_key_is_required(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = to_config(Options("m", str(tmp_path), host=host))
    assert not config.open
    with pytest.raises(ValueError, match=f"listening on {host} needs an API key"):
        require_key(config)
    ApiKeys(Database(config.database_url)).add("studio")
    require_key(config)
    monkeypatch.setenv(API_KEY_VARIABLE, KEY)
    require_key(to_config(Options("m", str(tmp_path / "other"), host=host)))


def test_a_missing_key_file_and_a_missing_model_are_told_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-key"):
        require_key(to_config(Options("m", str(tmp_path), api_key_file=str(tmp_path / "no-key"))))
    with pytest.raises(FileNotFoundError, match="no-model"), running(Options(str(tmp_path / "no-model"))):
        pass


@pytest.mark.slow
def test_weights_that_a_model_was_trained_with_are_asked_for_before_anything_starts(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = load_bundle(str(model))
    published = dataclasses.replace(trained, config=dataclasses.replace(trained.config, perceptual="vgg19_vggface"))
    monkeypatch.setattr("training.checkpoints.bundle.load_bundle", lambda url: published)
    with pytest.raises(ValueError, match="the weights of VGG19 are needed"), running(Options(str(model), port=0)):
        pass
    files = {"vgg19": str(model / "no-vgg19"), "vggface": str(model / "no-vggface")}
    with pytest.raises(FileNotFoundError, match="no-vgg19"), running(Options(str(model), port=0, **files)):
        pass


def test_a_port_in_use_is_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ValueError, match=f"cannot listen on 127.0.0.1:{port}"),
            running(Options(str(tmp_path), str(tmp_path / "data"), port=port)),
        ):
            pass


def test_how_long_things_are_kept_is_given_with_a_unit() -> None:
    rules = to_config(Options("m", keep_uploads="90m", keep_results="7d")).queue
    assert (rules.keep_uploads_s, rules.keep_results_s) == (5400.0, 604_800.0)
    with pytest.raises(ValueError, match=r"--keep-results is a number with m, h or d .*: got 7"):
        to_config(Options("m", keep_results="7"))


def test_a_folder_that_is_a_file_and_workers_that_do_not_fit_are_told_before_anything_starts(
    model: Path, tmp_path: Path
) -> None:
    (tmp_path / "afile").write_text("")
    with (
        pytest.raises(ValueError, match="afile is a file, not a folder"),
        running(Options(str(model), str(tmp_path / "afile"), port=0)),
    ):
        pass
    many = Options(str(model), str(tmp_path / "data"), port=0, num_renderers=2500)
    words = "2501 workers and 1 for single pictures need about 2931 GiB of memory"
    with pytest.raises(ValueError, match=words), running(many):
        pass


@pytest.mark.slow
def test_starts_that_cannot_work_say_why_at_once(
    run_sfumato: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "afile").write_text("")
    data = ["--data-dir", str(tmp_path / "data"), "--port", "0"]
    for arguments, reason in (
        (["--data-dir", str(tmp_path / "afile")], "afile is a file, not a folder"),
        ([*data, "--num-gpus", "1"], "2 workers need 2 GPUs, there are 0: give a smaller --num-gpus or fewer workers"),
        (
            [*data, "--num-renderers", "2500"],
            "2501 workers and 1 for single pictures need about 2931 GiB",
        ),
        ([*data, "--database", "mysql://x/y"], "database mysql://x/y: neither sqlite nor postgresql"),
    ):
        done = run_sfumato("serve", *arguments, environment={"CUDA_VISIBLE_DEVICES": ""}, timeout_s=30)
        assert done.returncode != 0
        assert reason in done.stderr.replace("\n", " "), done.stderr
        assert "Traceback" not in done.stderr
