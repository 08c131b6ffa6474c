import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import assets
from pipelines.assets import catalogue
from pipelines.assets.cache import Asset
from pipelines.faces import requirements
from pipelines.faces.detectors import DETECTORS, create_detector, require_weights, resolve_detector
from pipelines.faces.face import face_size, make_face
from pipelines.storage import hashing


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine that can fetch nothing; returns torch hub's folder, which is not there."""
    unreachable = {name: Asset(name, asset.file, 1, asset.sha256, "CC0") for name, asset in catalogue.ASSETS.items()}
    monkeypatch.setattr(catalogue, "ASSETS", unreachable)
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("SFUMATO_MIRROR", raising=False)
    return tmp_path / "torch" / "hub" / "checkpoints"


def with_cuda(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)


def test_a_face_has_the_box_of_its_points() -> None:
    points = np.zeros((68, 2))
    points[3], points[9] = (5, 40), (25, 10)
    face = make_face(points, 0.5)
    assert face.box == (0, 0, 25, 40)
    assert face_size(face) == 40
    assert face.landmarks.dtype == np.float32


def test_an_unknown_detector_lists_the_known_ones() -> None:
    for call in (create_detector, require_weights, resolve_detector):
        with pytest.raises(ValueError, match=r"'dlip'; choose one of mediapipe, face-alignment, dlib"):
            call("dlip")
    with pytest.raises(ValueError, match="unknown boxes 'retina'; choose one of yunet, s3fd, blazeface"):
        create_detector("face-alignment", boxes="retina")


def test_nothing_is_loaded_before_the_first_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "fetch_many", lambda names: pytest.fail("loaded too early"))
    for name in DETECTORS:
        assert create_detector(name).name == name


def test_missing_weights_say_which_and_where_they_belong(no_weights: Path) -> None:
    with pytest.raises(ValueError, match=rf"face-alignment needs 2DFAN4-11f355bf06\.pth\.tar in {no_weights}: cannot"):
        require_weights("face-alignment")
    with pytest.raises(ValueError, match="cannot fetch face_landmarker"):
        require_weights("mediapipe")
    with pytest.raises(ValueError, match="dlib_68"):
        require_weights("dlib")


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(requirements, "find_spec", lambda name: None if name == "dlib" else there(name))
    message = r"the detector dlib needs a package that is not here: pip install '\.\[dlib\]'"
    with pytest.raises(ValueError, match=message):
        require_weights("dlib")
    with pytest.raises(ValueError, match=message):
        create_detector("dlib").detect(np.zeros((20, 20, 3), np.uint8))


def test_auto_is_mediapipe_without_cuda(monkeypatch: pytest.MonkeyPatch, no_weights: Path) -> None:
    with_cuda(monkeypatch, False)
    assert resolve_detector("auto") == ("mediapipe", "mediapipe: for face-alignment there is no CUDA device")


def test_auto_is_mediapipe_without_the_weights(
    monkeypatch: pytest.MonkeyPatch, no_weights: Path, tmp_path: Path
) -> None:
    with_cuda(monkeypatch, True)
    reason = f"mediapipe: for face-alignment 2DFAN4-11f355bf06.pth.tar is not in {no_weights}"
    assert resolve_detector("auto") == ("mediapipe", reason)
    given = str(tmp_path / "given")
    assert given in resolve_detector("auto", weights=given)[1]
    assert "blazefaceback.pth" in resolve_detector("auto", boxes="blazeface")[1]


def test_auto_is_face_alignment_on_a_gpu_with_the_weights(
    monkeypatch: pytest.MonkeyPatch, no_weights: Path, tmp_path: Path
) -> None:
    """The 33 bytes below hash to a sha256 that begins with the digits in the file's name."""
    with_cuda(monkeypatch, True)
    content = b"weights of a network of one's own"
    (tmp_path / "content").write_bytes(content)
    digits = hashing.sha256_of(tmp_path / "content")[:10]
    (tmp_path / f"2DFAN4-{digits}.pth.tar").write_bytes(content)
    name, reason = resolve_detector("auto", weights=str(tmp_path))
    assert (name, reason) == ("face-alignment", "face-alignment: a CUDA device and its weights are here")
    assert "s3fd-619a316812.pth is not in" in resolve_detector("auto", boxes="s3fd", weights=str(tmp_path))[1]


def test_a_detector_that_is_asked_for_is_taken() -> None:
    assert resolve_detector("dlib") == ("dlib", "dlib, as asked for")


def test_the_weights_of_mediapipe_are_named_with_their_sha256() -> None:
    files = [assets.find(name) for name in ("face_landmarker", "yunet")]
    assert require_weights("mediapipe") == {asset.file: asset.sha256 for asset in files}
