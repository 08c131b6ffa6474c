"""The service's configuration and its API key."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.service.config import API_KEY_VARIABLE, QueueRules, ServiceConfig, parse_config, read_api_key

KEY = "0123456789abcdef0123"


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)


def test_arguments_of_a_serve_configuration_become_a_config() -> None:
    config = parse_config({"model": "m", "data_dir": "/data", "num_gpus": 0.5, "queue": {"lease_s": 5}})
    assert config == ServiceConfig("m", "/data", num_gpus=0.5, queue=QueueRules(lease_s=5.0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "m"}, "data_dir: Field required"),
        ({"model": "m", "data_dir": "d", "renderers": 2}, "renderers: Unexpected keyword argument"),
        ({"model": "m", "data_dir": "d", "queue": {"lease": 2}}, "queue.lease: Unexpected keyword argument"),
        ({"model": "m", "data_dir": "d", "num_renderers": 0}, "num_renderers must be at least 1: got 0"),
        ({"model": "m", "data_dir": "d", "num_stills": -1}, "num_stills must not be negative: got -1"),
        ({"model": "m", "data_dir": "d", "vggface": "v.pth"}, "--vggface is given without --vgg19"),
        ({"model": "m", "data_dir": "gs://b/d"}, "data in gs://b/d needs a database"),
        ({"model": "m", "data_dir": "d", "queue": {"lease_s": 0.1}}, "poll_s 0.25 must lie between 0 and lease_s 0.1"),
    ],
)
def test_wrong_arguments_are_refused_by_name(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match="service configuration") as refused:
        parse_config(values)
    assert message in str(refused.value)


def test_the_key_comes_from_its_file_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, "f" * 20)
    (tmp_path / "key").write_text(f"{KEY}\n")
    assert read_api_key(ServiceConfig("m", "d", api_key_file=str(tmp_path / "key"))) == KEY
    assert read_api_key(ServiceConfig("m", "d")) == "f" * 20


def test_a_service_without_a_key_must_be_declared_open(tmp_path: Path) -> None:
    assert read_api_key(ServiceConfig("m", "d", open=True)) is None
    with pytest.raises(ValueError, match="no API key"):
        read_api_key(ServiceConfig("m", "d"))
    (tmp_path / "key").write_text("  \n")
    with pytest.raises(ValueError, match="is empty"):
        read_api_key(ServiceConfig("m", "d", open=True, api_key_file=str(tmp_path / "key")))


def test_a_key_that_can_be_guessed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret")
    with pytest.raises(ValueError, match="6 characters"):
        read_api_key(ServiceConfig("m", "d", api_key_file=str(tmp_path / "key")))
