"""Find weights on this machine or fetch them, and check that they are what their names say.

The networks of face-alignment are in the catalogue; those that a user names by path or URL are known by their sha256.
torch hub puts the first digits of a file's sha256 into its name (`2DFAN4-11f355bf06.pth.tar`). The published files are
in the catalogue with all digits; a network of one's own, trained further, goes by the same rule.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from pipelines import assets, storage
from pipelines.assets import Asset, AssetError
from pipelines.assets.download import download_url
from pipelines.cli import progress
from pipelines.storage import hashing

# The rear-camera network of BlazeFace, as its PyTorch port publishes it. No sha256 is published with it, so nothing
# downloads it: it is read where the user put it, and its sha256 is recorded.
BLAZEFACE_FILES = ("blazefaceback.pth", "anchorsback.npy")

_DIGITS = re.compile(r"-([0-9a-f]{10,64})\.")


def hub_folder() -> Path:
    """Where torch hub keeps weights: `$TORCH_HOME/hub/checkpoints`, else in ~/.cache/torch."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def locate(name: str, folder: str | None = None) -> Path:
    """The local file of the catalogue's `name`, checked by its sha256.

    Sources: `folder` alone where it is given, a path or URL; else torch hub's folder, the cache, the mirror and the
    official URL.

    Raises:
        ValueError: it is nowhere, or is another file than its name says. The message says where it belongs.
    """
    asset = assets.find(name)
    if folder is not None:
        if not storage.is_local(folder):
            return assets.fetch_from(folder, name)
        if (path := _in_folder(asset, storage.local_path(folder))) is None:
            raise ValueError(f"{folder} holds no {asset.file}")
        return path
    if (path := _in_folder(asset, hub_folder())) is not None:
        return path
    try:
        return assets.fetch(name)
    except AssetError as error:
        raise ValueError(f"face-alignment needs {asset.file} in {hub_folder()}: {error}") from error


def is_at_hand(name: str, folder: str | None = None) -> bool:
    """Whether `locate` needs no network for the file. Raises ValueError when it is another one than its name says."""
    asset = assets.find(name)
    if folder is not None and storage.is_local(folder):
        return _in_folder(asset, storage.local_path(folder)) is not None
    return not assets.verify(asset) or (folder is None and _in_folder(asset, hub_folder()) is not None)


def locate_blazeface(folder: str | None = None) -> tuple[Path, Path]:
    """The local files of BlazeFace: its weights and its anchors, in the local `folder`, else in torch hub's.

    Raises:
        ValueError: one is not there, or `folder` is remote: nothing says what a download has to hash to.
    """
    if folder is not None and not storage.is_local(folder):
        raise ValueError(f"BlazeFace has no published sha256 to check a download by; copy it from {folder} yourself")
    place = hub_folder() if folder is None else storage.local_path(folder)
    for file in BLAZEFACE_FILES:
        if not (place / file).is_file():
            raise ValueError(f"face-alignment with BlazeFace boxes needs {file} in {place}")
    return place / BLAZEFACE_FILES[0], place / BLAZEFACE_FILES[1]


def cached(sha256: str) -> Path | None:
    """The copy of a file of that sha256 that `fetch` left in the cache."""
    path = _cache() / sha256
    return path if path.is_file() and hashing.sha256_of(path) == sha256 else None


def fetch(url: str, sha256: str | None = None) -> tuple[Path, str]:
    """A local file with what lies at a path or URL, and its sha256.

    A local file is read where it lies. Another is downloaded into the cache under its sha256; once there, whoever knows
    that needs no network.

    Raises:
        FileNotFoundError: there is no such local file.
        ValueError: its sha256 is not the one expected.
        OSError: it cannot be downloaded.
    """
    if storage.is_local(url):
        path = storage.local_path(url)
        if not path.is_file():
            raise FileNotFoundError(f"{url} {'is no file' if path.exists() else 'does not exist'}")
        found = hashing.sha256_of(path)
        _expect(url, found, sha256)
        return path, found
    _cache().mkdir(parents=True, exist_ok=True)
    with assets.locked(sha256 or url):
        if sha256 is not None and (path_of := cached(sha256)) is not None:
            return path_of, sha256
        with tempfile.TemporaryDirectory(dir=_cache(), prefix=".fetch-") as folder, progress(num_bytes=True) as bar:
            task = bar.add_task(url.rpartition("/")[2], total=None)
            target = Path(folder) / "weights"
            download_url(url, target, lambda num_bytes: bar.update(task, completed=num_bytes))
            found = hashing.sha256_of(target)
            _expect(url, found, sha256)
            return target.replace(_cache() / found), found


def _cache() -> Path:
    return assets.cache_folder() / "weights"


def _expect(url: str, found: str, sha256: str | None) -> None:
    if sha256 is not None and found != sha256:
        raise ValueError(f"{url} has sha256 {found}, expected {sha256}")


def _in_folder(asset: Asset, folder: Path) -> Path | None:
    """The published file, else the only one that differs from it in the digits of its name."""
    path = folder / asset.file
    if not path.is_file():
        found = _DIGITS.search(asset.file)
        assert found is not None
        pattern = asset.file.replace(found[1], "*")
        others = [other for other in sorted(folder.glob(pattern)) if _DIGITS.search(other.name)]
        if len(others) > 1:
            names = ", ".join(other.name for other in others)
            raise ValueError(f"{folder} holds several networks where one is wanted: {names}")
        if not others:
            return None
        path = others[0]
    _check(path, asset)
    return path


def _check(path: Path, asset: Asset) -> None:
    digits = _DIGITS.search(path.name)
    assert digits is not None
    expected = asset.sha256 if path.name == asset.file else digits[1]
    found = hashing.sha256_of(path)
    if not found.startswith(expected):
        raise ValueError(f"{path} has sha256 {found}, expected {expected}")
