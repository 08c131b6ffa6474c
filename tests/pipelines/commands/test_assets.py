import hashlib
from pathlib import Path

import pytest

from pipelines import assets
from pipelines.assets import catalogue
from pipelines.assets.cache import Asset, AssetError
from pipelines.commands import assets as verb
from pipelines.commands.assets import Options, run


@pytest.fixture
def two_assets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A catalogue of "here" (on the mirror) and "gone" (nowhere); returns the cache."""
    entries = {
        name: Asset(name, f"{name}.bin", 4, hashlib.sha256(name.encode()).hexdigest(), "CC0")
        for name in ("here", "gone")
    }
    monkeypatch.setattr(catalogue, "ASSETS", entries)
    monkeypatch.setattr(verb, "ASSETS", entries)
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "here.bin").write_bytes(b"here")
    monkeypatch.setenv("SFUMATO_MIRROR", f"file://{tmp_path}/mirror")
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_list_shows_each_with_licence_and_whether_it_is_cached(
    two_assets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(Options("fetch", ("here",)))
    assert run(Options("list")).counts == {"assets": 2, "cached": 1}
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = {line.split()[1]: line for line in shown.err.splitlines() if "bin" not in line and "CC0" in line}
    assert "yes" in lines["here"]
    assert "no" in lines["gone"]


def test_fetch_says_what_is_there_and_what_is_missing(two_assets: Path) -> None:
    assert run(Options("fetch", ("here",))).counts == {"fetched": 1, "already there": 0}
    assert run(Options("fetch", ("here",))).counts == {"fetched": 0, "already there": 1}
    partly = run(Options("fetch"))
    assert not partly.ok
    assert partly.counts == {"fetched": 0, "missing": 1}
    assert "gone" in partly.notes[0]
    with pytest.raises(AssetError, match="cannot fetch gone"):
        run(Options("fetch", ("gone",)))


def test_verify_reads_the_files(two_assets: Path) -> None:
    assert not run(Options("verify")).ok
    run(Options("fetch", ("here",)))
    good = run(Options("verify"))
    assert good.ok
    assert good.counts == {"good": 1, "damaged": 0, "not fetched": 1}
    (two_assets / "here.bin").write_bytes(b"hera")
    bad = run(Options("verify"))
    assert not bad.ok
    assert bad.counts == {"good": 0, "damaged": 1, "not fetched": 1}
    assert "expected" in bad.notes[0]


def test_an_unknown_name_is_refused(two_assets: Path) -> None:
    with pytest.raises(AssetError, match="unknown asset 'nix'; known: here, gone"):
        run(Options("list", ("nix",)))


def test_what_one_site_alone_has_is_fetched_only_by_name(two_assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = Asset(
        "far", "far.bin", 3, hashlib.sha256(b"far").hexdigest(), "CC0", url=f"file://{two_assets.parent}/far.bin"
    )
    (two_assets.parent / "far.bin").write_bytes(b"far")
    catalogue.ASSETS["far"] = far  # type: ignore[index]
    run(Options("fetch"))
    assert not assets.is_cached(far)
    assert run(Options("fetch", ("far",))).counts == {"fetched": 1, "already there": 0}
