"""Find network weights on this machine or fetch them, and verify them by sha256.

The networks of face-alignment are in the catalogue; weights that a user gives by path or URL are identified by their
sha256. torch hub puts the first digits of a file's sha256 into its name (`2DFAN4-11f355bf06.pth.tar`). The catalogue
has all digits of the published files; a user's own fine-tuned network must follow the same naming rule.
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

# The rear-camera network of BlazeFace, as its PyTorch port publishes it. No sha256 is published with it, so it is never
# downloaded: the user provides the files, and their sha256 is recorded.
BLAZEFACE_FILES = ("blazefaceback.pth", "anchorsback.npy")

_DIGITS = re.compile(r"-([0-9a-f]{10,64})\.")


def hub_folder() -> Path:
    """Return torch hub's folder of weights: `$TORCH_HOME/hub/checkpoints`, else in ~/.cache/torch."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def locate(name: str, folder: str | None = None) -> Path:
    """Return the local file of the catalogue's asset `name`, verified by its sha256.

    Sources: only `folder` (a path or URL) if it is given; else torch hub's folder, the cache, the mirror and the
    official URL.

    Raises:
        ValueError: no source has it, or its content does not match its name. The message says where it belongs.
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
    """Whether `locate` needs no network for the file. Raises ValueError when its content does not match its name."""
    asset = assets.find(name)
    if folder is not None and storage.is_local(folder):
        return _in_folder(asset, storage.local_path(folder)) is not None
    return not assets.verify(asset) or (folder is None and _in_folder(asset, hub_folder()) is not None)


def locate_blazeface(folder: str | None = None) -> tuple[Path, Path]:
    """Return the local files of BlazeFace, weights and anchors, in the local `folder`, else in torch hub's.

    Raises:
        ValueError: one is missing, or `folder` is remote: there is no published sha256 to verify a download with.
    """
    if folder is not None and not storage.is_local(folder):
        raise ValueError(f"BlazeFace has no published sha256 to check a download by; copy it from {folder} yourself")
    place = hub_folder() if folder is None else storage.local_path(folder)
    for file in BLAZEFACE_FILES:
        if not (place / file).is_file():
            raise ValueError(f"face-alignment with BlazeFace boxes needs {file} in {place}")
    return place / BLAZEFACE_FILES[0], place / BLAZEFACE_FILES[1]


def cached(sha256: str) -> Path | None:
    """Return the cached copy of a file that `fetch` downloaded, by its sha256; None if there is none."""
    path = _cache() / sha256
    return path if path.is_file() and hashing.sha256_of(path) == sha256 else None


def fetch(url: str, sha256: str | None = None) -> tuple[Path, str]:
    """Return a local file with the content of a path or URL, and its sha256.

    A local file is used in place. A remote one is downloaded into the cache under its sha256; later calls with that
    `sha256` need no network.

    Raises:
        FileNotFoundError: there is no such local file.
        ValueError: its sha256 is not the expected one.
        OSError: it cannot be downloaded.
    """
    if storage.is_local(url):
        path = storage.local_path(url)
        if not path.is_file():
            raise FileNotFoundError(f"{url} {'is no file' if path.exists() else 'does not exist'}")
        found = hashing.sha256_of(path)
        _expect(url, found, sha256)
        return path, found
    if sha256 is not None and (path_of := cached(sha256)) is not None:
        return path_of, sha256
    with assets.locked(sha256 or url):
        _cache().mkdir(exist_ok=True)
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
    """Return the published file, else the only file whose name differs in the sha256 digits; None if neither."""
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
