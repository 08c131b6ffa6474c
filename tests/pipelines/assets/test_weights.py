import hashlib
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.assets import catalogue, weights
from pipelines.assets.cache import Asset

CONTENT = b"weights of a very small network"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILE = f"net-{SHA256[:10]}.pth"


@pytest.fixture(autouse=True)
def one_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A catalogue of one network that lies nowhere yet."""
    monkeypatch.setattr(catalogue, "ASSETS", {"net": Asset("net", FILE, len(CONTENT), SHA256, "CC0")})
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SFUMATO_MIRROR", raising=False)


def put(folder: Path, name: str = FILE, content: bytes = CONTENT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def test_a_file_that_is_nowhere_is_named_with_the_folder_it_belongs_in(tmp_path: Path) -> None:
    assert not weights.is_at_hand("net")
    with pytest.raises(ValueError, match=rf"needs {FILE} in {tmp_path}/torch/hub/checkpoints: cannot fetch net"):
        weights.locate("net")
    with pytest.raises(ValueError, match=rf"{tmp_path} holds no {FILE}"):
        weights.locate("net", str(tmp_path))


def test_torch_hubs_folder_comes_before_the_sources(tmp_path: Path) -> None:
    path = put(tmp_path / "torch" / "hub" / "checkpoints")
    assert weights.is_at_hand("net")
    assert weights.locate("net") == path


def test_the_mirror_is_tried_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "mirror")
    monkeypatch.setenv("SFUMATO_MIRROR", f"file://{tmp_path}/mirror")
    assert not weights.is_at_hand("net")
    assert weights.locate("net") == tmp_path / "cache" / FILE
    assert weights.is_at_hand("net")


def test_a_given_folder_is_the_only_source(tmp_path: Path) -> None:
    put(tmp_path / "torch" / "hub" / "checkpoints")
    (tmp_path / "empty").mkdir()
    assert not weights.is_at_hand("net", str(tmp_path / "empty"))
    with pytest.raises(ValueError, match="holds no net"):
        weights.locate("net", str(tmp_path / "empty"))
    path = put(tmp_path / "given")
    assert weights.locate("net", str(tmp_path / "given")) == path


def test_a_folder_of_a_store_is_copied_into_the_cache(tmp_path: Path) -> None:
    from pipelines import storage

    storage.write_bytes(f"memory://weights/{FILE}", CONTENT)
    assert not weights.is_at_hand("net", "memory://weights")
    assert weights.locate("net", "memory://weights") == tmp_path / "cache" / FILE
    assert weights.is_at_hand("net", "memory://weights")


def test_a_published_file_must_have_all_digits_of_its_sha256(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path)
    other = SHA256[:10] + "0" * 54
    monkeypatch.setattr(catalogue, "ASSETS", {"net": Asset("net", FILE, len(CONTENT), other, "CC0")})
    with pytest.raises(ValueError, match=f"{FILE} has sha256 {SHA256}, expected {other}"):
        weights.locate("net", str(tmp_path))


def test_a_network_of_ones_own_must_have_the_digits_in_its_name(tmp_path: Path) -> None:
    own = b"trained further"
    digits = hashlib.sha256(own).hexdigest()[:10]
    path = put(tmp_path / "good", f"net-{digits}.pth", own)
    assert weights.locate("net", str(tmp_path / "good")) == path
    put(tmp_path / "bad", "net-0123456789.pth", own)
    with pytest.raises(ValueError, match=f"sha256 {digits}.*, expected 0123456789"):
        weights.locate("net", str(tmp_path / "bad"))
    put(tmp_path / "unnamed", "net-latest.pth", own)
    with pytest.raises(ValueError, match="holds no net"):
        weights.locate("net", str(tmp_path / "unnamed"))


def test_two_networks_of_ones_own_are_one_too_many(tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        put(tmp_path, f"net-{hashlib.sha256(content).hexdigest()[:10]}.pth", content)
    with pytest.raises(ValueError, match="several networks where one is wanted"):
        weights.locate("net", str(tmp_path))


def test_blazeface_is_read_where_the_user_put_it_and_never_downloaded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs blazefaceback\.pth in .*checkpoints"):
        weights.locate_blazeface()
    files = [put(tmp_path / "torch" / "hub" / "checkpoints", name) for name in weights.BLAZEFACE_FILES]
    assert weights.locate_blazeface() == tuple(files)
    with pytest.raises(ValueError, match="no published sha256"):
        weights.locate_blazeface("https://example.org/weights")


def test_a_file_named_by_path_is_read_where_it_lies(tmp_path: Path) -> None:
    path = put(tmp_path / "disk", "anything.bin")
    assert weights.fetch(str(path)) == weights.fetch(f"file://{path}", SHA256) == (path, SHA256)
    assert not (tmp_path / "cache").exists()
    with pytest.raises(ValueError, match=rf"{path} has sha256 {SHA256}, expected a{{64}}"):
        weights.fetch(str(path), "a" * 64)
    with pytest.raises(FileNotFoundError, match="none does not exist"):
        weights.fetch(str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="disk is no file"):
        weights.fetch(str(tmp_path / "disk"))


def test_a_file_of_a_url_is_downloaded_once_under_its_sha256(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/net.bin"
    storage.write_bytes(url, CONTENT)
    assert weights.cached(SHA256) is None
    with pytest.raises(ValueError, match=rf"{url} has sha256 {SHA256}, expected b{{64}}"):
        weights.fetch(url, "b" * 64)
    path, found = weights.fetch(url)
    assert (path, found) == (tmp_path / "cache" / "weights" / SHA256, SHA256)
    assert path.read_bytes() == CONTENT
    storage.remove(url)
    assert weights.fetch(url, SHA256) == (path, SHA256)
    assert weights.cached(SHA256) == path
    with pytest.raises(OSError, match=url):  # whoever does not know the sha256 has to read it
        weights.fetch(url)
    path.write_bytes(CONTENT[:-1])
    assert weights.cached(SHA256) is None
    assert [file.name for file in path.parent.iterdir()] == [SHA256]
