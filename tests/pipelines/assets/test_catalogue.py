from pipelines.assets.catalogue import ASSETS, Asset, read_catalogue
from pipelines.assets.download import PackageSource


def test_every_entry_of_the_catalogue_can_be_had_and_is_pinned() -> None:
    for name, asset in ASSETS.items():
        assert name == asset.name
        assert len(asset.sha256) == 64
        assert asset.vendored or (asset.package and asset.member) or asset.url
    assert len({asset.file for asset in ASSETS.values()}) == len(ASSETS)


def test_a_catalogue_joins_assets_with_their_packages() -> None:
    text = """
[packages.bundle]
kind = "wheel"
version = "1.0"
num_bytes = 10

[assets.a]
file = "a.bin"
num_bytes = 4
sha256 = "aa"
licence = "CC0"
package = "bundle"
member = "pkg/a"

[assets.b]
file = "b.bin"
num_bytes = 5
sha256 = "bb"
licence = "MIT"
url = "https://example.org/b.bin"
"""
    source = PackageSource("wheel", "bundle", "1.0", 10)
    assert read_catalogue(text) == {
        "a": Asset("a", "a.bin", 4, "aa", "CC0", source, "pkg/a"),
        "b": Asset("b", "b.bin", 5, "bb", "MIT", url="https://example.org/b.bin"),
    }
