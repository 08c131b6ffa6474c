"""Shared libraries that Python wheels expect from the system, and the install command of each distribution."""

from collections.abc import Mapping

_INSTALLERS = {
    "debian": "apt-get install -y",
    "fedora": "dnf install -y",
    "suse": "zypper install -y",
    "arch": "pacman -S",
}
_FAMILY_OF = {"ubuntu": "debian", "rhel": "fedora", "centos": "fedora", "opensuse": "suse", "sles": "suse"}

# Library -> package that contains it, in the order of _INSTALLERS. MediaPipe needs the first two, OpenCV the others.
_PACKAGES_OF = {
    "libEGL.so.1": ("libegl1", "libglvnd-egl", "Mesa-libEGL1", "libglvnd"),
    "libGLESv2.so.2": ("libgles2", "libglvnd-gles", "Mesa-libGLESv2-2", "libglvnd"),
    "libGL.so.1": ("libgl1", "libglvnd-glx", "Mesa-libGL1", "libglvnd"),
    "libgthread-2.0.so.0": ("libglib2.0-0", "glib2", "libgthread-2_0-0", "glib2"),
}

LIBRARIES = tuple(_PACKAGES_OF)


def family_of(release: Mapping[str, str]) -> str:
    """Return the family ("debian", "fedora", ...) of a distribution from its os-release; its ID when unknown."""
    names = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    for name in names:
        family = _FAMILY_OF.get(name.partition("-")[0], name)
        if family in _INSTALLERS or family == "alpine":
            return family
    return names[0]


def how_to_install(library: str, family: str) -> str:
    """Return the command that installs a system library on a family of distributions."""
    if family == "alpine":
        return "Alpine is not supported: MediaPipe has no wheel for musl; use a Debian-based image"
    if family in _INSTALLERS:
        package = dict(zip(_INSTALLERS, _PACKAGES_OF[library], strict=True))[family]
        return f"{_INSTALLERS[family]} {package}"
    return f"install the package of your distribution that holds {library}"
