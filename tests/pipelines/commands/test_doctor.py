"""`sfumato doctor`: each check on a good and on a broken installation."""

import errno
import os
import socket
from collections.abc import Mapping
from importlib.metadata import requires
from pathlib import Path

import pytest

from pipelines.commands import doctor
from pipelines.commands.doctor import Check, Options, check_packages

INSTALLED: Mapping[str, str] = {"numpy": "2.4.6", "ray": "2.60.0", "uvicorn": "0.1"}
RAY_PARTS = ['uvicorn>=0.2; extra == "serve"', 'gpustat; extra == "default"', "click"]


def _check(*requirements: str) -> list[Check]:
    return check_packages(requirements, INSTALLED.get, lambda name: RAY_PARTS if name == "ray" else ())


def test_pinned_version_is_ok() -> None:
    assert _check("numpy==2.4.6") == [Check("packages", "ok", "1 as required")]


def test_required_package_of_another_version_is_missing() -> None:
    assert _check("numpy==2.4.7") == [Check("packages", "missing", "numpy==2.4.7 is 2.4.6", "make setup")]


def test_package_of_an_extra_that_is_absent_is_only_noted() -> None:
    (check,) = _check('mlflow==3.17.2; extra == "training"')
    assert (check.name, check.state) == ("packages [training]", "note")
    assert check.found == "mlflow==3.17.2 is not installed"


def test_parts_of_a_package_are_checked_as_well() -> None:
    (check,) = _check('ray[serve]==2.60.0; extra == "serving"')
    assert check.found == "uvicorn>=0.2 is 0.1"


def test_requirements_of_another_platform_and_of_development_do_not_count() -> None:
    assert _check('pywin32; sys_platform == "win32"', 'pytest; extra == "dev"') == []


def test_own_metadata_is_read() -> None:
    checks = check_packages(requires("sfumato") or (), {}.get, lambda name: ())
    assert checks[0].state == "missing"
    assert {check.name for check in checks} >= {"packages", "packages [training]", "packages [serving]"}


@pytest.mark.parametrize(
    ("version", "state"),
    [((3, 10, 9), "missing"), ((3, 11, 0), "ok"), ((3, 12, 8), "ok"), ((3, 13, 0), "missing")],
)
def test_python_3_11_and_3_12_are_supported(version: tuple[int, int, int], state: str) -> None:
    assert doctor.check_python(version).state == state


def test_opencv_packages_must_be_one_version() -> None:
    assert doctor.check_opencv_pair({"opencv-python": "5.0", "opencv-contrib-python": "5.0"}.get).state == "ok"
    check = doctor.check_opencv_pair({"opencv-python": "5.0", "opencv-contrib-python": "5.1"}.get)
    assert (check.state, check.found) == ("missing", "opencv-python 5.0, opencv-contrib-python 5.1")
    assert doctor.check_opencv_pair({}.get).state == "missing"


def test_cache_that_cannot_be_written_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "file" / "cache"))
    check = doctor.check_cache()
    assert (check.state, check.found) == ("missing", f"{tmp_path / 'file' / 'cache'}: Not a directory")


def test_case_16_a_read_only_cache_is_good_when_it_is_complete(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    assert (doctor.check_cache().state, doctor.check_cache().found) == ("missing", f"{tmp_path}: Read-only file system")
    monkeypatch.setattr(doctor, "is_cached", lambda asset: asset.name != "yunet")
    check = doctor.check_cache()
    assert check.state == "note"
    assert check.found.endswith("it lacks yunet")
    monkeypatch.setattr(doctor, "is_cached", lambda asset: True)
    assert (doctor.check_cache().state, doctor.check_cache().found) == ("ok", f"{tmp_path}, read-only and complete")


def test_a_user_without_a_home_is_told_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    without_home(monkeypatch)
    check = doctor.check_cache()
    assert check.state == "missing"
    assert check.found == "this user has no home folder for the cache of pretrained files"
    assert "SFUMATO_CACHE" in check.remedy


def without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("SFUMATO_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", refuse)


def test_port_in_use_is_noted() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert doctor.check_port(port).state == "note"
    assert doctor.check_port(port).state == "ok"


def test_detector_that_is_not_fetched_is_noted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    check = doctor.check_landmarks()
    assert (check.state, check.remedy) == ("note", "sfumato assets fetch face_landmarker")


def test_broken_detector_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise RuntimeError("libEGL.so.1: cannot open shared object file")

    monkeypatch.setattr(doctor, "is_cached", lambda asset: True)
    monkeypatch.setattr("pipelines.faces.detectors.create_detector", refuse)
    check = doctor.check_landmarks()
    assert (check.state, check.found) == ("missing", "libEGL.so.1: cannot open shared object file")


def test_missing_library_fails_the_run_and_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor, "LIBRARIES", ("libEGL.so.1", "libnone.so.7"))
    monkeypatch.setattr(doctor, "how_to_install", lambda library, family: f"get {library}")
    outcome = doctor.run(Options())
    assert not outcome.ok
    assert outcome.counts["missing"] == 1
    assert outcome.notes[0].startswith("libnone.so.7: ")
    assert "get libnone.so.7" in capsys.readouterr().err


def test_machine_says_cores_memory_and_disk() -> None:
    assert f"{len(os.sched_getaffinity(0))} cores" in doctor.check_machine().found
