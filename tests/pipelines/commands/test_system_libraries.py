"""Which command installs a system library on which distribution."""

import pytest

from pipelines.commands.system_libraries import LIBRARIES, family_of, how_to_install


@pytest.mark.parametrize(
    ("release", "family"),
    [
        ({"ID": "debian"}, "debian"),
        ({"ID": "ubuntu", "ID_LIKE": "debian"}, "debian"),
        ({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, "debian"),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "fedora"),
        ({"ID": "opensuse-leap", "ID_LIKE": "suse opensuse"}, "suse"),
        ({"ID": "alpine"}, "alpine"),
        ({"ID": "nixos"}, "nixos"),
        ({}, ""),
    ],
)
def test_distribution_is_told_from_its_os_release(release: dict[str, str], family: str) -> None:
    assert family_of(release) == family


@pytest.mark.parametrize(
    ("family", "command"),
    [
        ("debian", "apt-get install -y libgles2"),
        ("fedora", "dnf install -y libglvnd-gles"),
        ("suse", "zypper install -y Mesa-libGLESv2-2"),
        ("arch", "pacman -S libglvnd"),
        ("nixos", "install the package of your distribution that holds libGLESv2.so.2"),
    ],
)
def test_each_family_has_its_command(family: str, command: str) -> None:
    assert how_to_install("libGLESv2.so.2", family) == command


@pytest.mark.parametrize("library", LIBRARIES)
def test_alpine_is_said_to_be_unsupported(library: str) -> None:
    assert "not supported" in how_to_install(library, "alpine")
