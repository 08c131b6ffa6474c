"""`sfumato doctor`: is everything here that a run needs, and if not, what to type."""

import ctypes
import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from packaging.requirements import Requirement

from pipelines.assets import cache_folder, fetch, find, is_cached
from pipelines.command import Outcome, console

State = Literal["ok", "note", "missing"]

_INSTALLERS = {
    "debian": "apt-get install -y",
    "fedora": "dnf install -y",
    "suse": "zypper install -y",
    "arch": "pacman -S",
}
_FAMILY_OF = {"ubuntu": "debian", "rhel": "fedora", "centos": "fedora", "opensuse": "suse", "sles": "suse"}

# Shared libraries that wheels expect from the system (MediaPipe the first two, OpenCV the others) and the package
# that brings each, in the order of _INSTALLERS.
_PACKAGES_OF = {
    "libEGL.so.1": ("libegl1", "libglvnd-egl", "Mesa-libEGL1", "libglvnd"),
    "libGLESv2.so.2": ("libgles2", "libglvnd-gles", "Mesa-libGLESv2-2", "libglvnd"),
    "libGL.so.1": ("libgl1", "libglvnd-glx", "Mesa-libGL1", "libglvnd"),
    "libgthread-2.0.so.0": ("libglib2.0-0", "glib2", "libgthread-2_0-0", "glib2"),
}

_LEAST_RAM_GIB = 4.0
_LEAST_DISK_GIB = 5.0


@dataclass(frozen=True)
class Options:
    """Check this installation: packages, system libraries, ffmpeg, the face detector, disk, port.

    Exits 1 when something required is missing; the table says how to get it.
    """

    port: Annotated[int, tyro.conf.arg(metavar="PORT")] = 8000
    """The port `sfumato serve` is meant to listen on."""


@dataclass(frozen=True)
class Check:
    """One row of the table; `remedy` says what to do when `state` is not "ok"."""

    name: str
    state: State
    found: str
    remedy: str = ""


def run(options: Options) -> Outcome:
    """Run every check, show them as a table on stderr; `ok` is False when something required is missing."""
    started = time.monotonic()
    checks = [
        check_python(sys.version_info[:3]),
        check_machine(),
        check_gpu(),
        *check_packages(importlib.metadata.requires("sfumato") or (), _installed_version),
        check_opencv_pair(_installed_version),
        *check_system_libraries(),
        check_ffmpeg(),
        check_cache(),
        check_landmarks(),
        check_port(options.port),
    ]
    _show(checks)
    missing = [check for check in checks if check.state == "missing"]
    return Outcome(
        made=(),
        counts={state: sum(c.state == state for c in checks) for state in ("ok", "note", "missing")},
        seconds=time.monotonic() - started,
        ok=not missing,
        notes=tuple(f"{check.name}: {check.found}; {check.remedy}" for check in missing),
    )


def check_python(version: tuple[int, ...]) -> Check:
    """Python 3.11 or 3.12: what the pinned packages have wheels for."""
    found = ".".join(map(str, version))
    if (3, 11) <= version < (3, 13):
        return Check("Python", "ok", found)
    return Check("Python", "missing", found, "install Python 3.11 or 3.12, then `make setup`")


def check_machine() -> Check:
    """CPU cores this process may use, memory, and room on the disk of the working directory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    disk = shutil.disk_usage(Path.cwd()).free / 2**30
    found = f"{platform.machine()}, {cores} cores, {ram:.1f} GiB memory, {disk:.1f} GiB of disk free"
    if ram < _LEAST_RAM_GIB or disk < _LEAST_DISK_GIB:
        least = f"the demo wants {_LEAST_RAM_GIB:.0f} GiB of memory and {_LEAST_DISK_GIB:.0f} GiB of disk"
        return Check("machine", "note", found, least)
    return Check("machine", "ok", found)


def check_gpu() -> Check:
    """The CUDA devices that torch sees; none is fine."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Check("GPU", "missing", f"torch does not load: {error}", "make setup")
    build = f"torch {torch.__version__}"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Check("GPU", "ok", f"{', '.join(names)} ({build})")
    return Check("GPU", "ok", f"none: the CPU is used ({build})")


def _installed_version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_packages(requirements: Iterable[str], version_of: Callable[[str], str | None]) -> list[Check]:
    """Installed versions against this distribution's own requirements, one check for each extra.

    Args:
        requirements: as in the metadata: `name==1.0`, `name>=2; extra == "training"`.
        version_of: distribution name -> installed version, None when it is not installed.
    """
    faults: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for line in requirements:
        requirement = Requirement(line)
        extra = _extra_of(requirement)
        if requirement.name == "sfumato" or extra == "dev":
            continue
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        counts[extra] = counts.get(extra, 0) + 1
        version = version_of(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            faults.setdefault(extra, []).append(f"{requirement} is {version or 'not installed'}".split(";")[0])
    checks = []
    for extra, count in counts.items():
        name = f"packages [{extra}]" if extra else "packages"
        remedy = f"make setup, or pip install '.[{extra}]'" if extra else "make setup"
        state: State = "note" if extra else "missing"
        found = f"{count} as pinned" if extra not in faults else _list_faults(faults[extra])
        checks.append(Check(name, "ok", found) if extra not in faults else Check(name, state, found, remedy))
    return checks


def _extra_of(requirement: Requirement) -> str:
    """The extra that asks for `requirement`: the quoted word after `extra ==`; "" for a plain one."""
    _, found, rest = str(requirement.marker or "").partition('extra == "')
    return rest.partition('"')[0] if found else ""


def _list_faults(faults: Sequence[str]) -> str:
    rest = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
    return ", ".join(faults[:3]) + rest


def check_opencv_pair(version_of: Callable[[str], str | None]) -> Check:
    """opencv-python and opencv-contrib-python write the same files: they must be one version."""
    plain, contrib = version_of("opencv-python"), version_of("opencv-contrib-python")
    if plain == contrib and plain is not None:
        return Check("OpenCV", "ok", f"{plain}, both packages")
    found = f"opencv-python {plain or 'missing'}, opencv-contrib-python {contrib or 'missing'}"
    return Check("OpenCV", "missing", found, "make setup: both must be the pinned version")


def check_system_libraries() -> list[Check]:
    """The shared libraries that wheels expect from the system; looked for on Linux only."""
    if sys.platform != "linux":
        return [Check("system libraries", "ok", f"not needed on {platform.system()}")]
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    family = family_of(release)
    return [_check_library(library, family) for library in _PACKAGES_OF]


def _check_library(library: str, family: str) -> Check:
    try:
        ctypes.CDLL(library)
    except OSError as error:
        return Check(library, "missing", str(error), how_to_install(library, family))
    return Check(library, "ok", "loads")


def family_of(release: Mapping[str, str]) -> str:
    """The family ("debian", "fedora", ...) of a distribution from its os-release; its ID when unknown."""
    names = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    for name in names:
        family = _FAMILY_OF.get(name.partition("-")[0], name)
        if family in _INSTALLERS or family == "alpine":
            return family
    return names[0]


def how_to_install(library: str, family: str) -> str:
    """The command that installs a system library on a family of distributions."""
    if family == "alpine":
        return "Alpine is not supported: MediaPipe has no wheel for musl; use a Debian-based image"
    if family in _INSTALLERS:
        package = dict(zip(_INSTALLERS, _PACKAGES_OF[library], strict=True))[family]
        return f"{_INSTALLERS[family]} {package}"
    return f"install the package of your distribution that holds {library}"


def check_ffmpeg() -> Check:
    """An ffmpeg with an H.264 encoder: the one on PATH, else the one imageio-ffmpeg brings."""
    from pipelines.video import ffmpeg_executable

    remedy = "pip install imageio-ffmpeg, or install ffmpeg and put it on PATH"
    try:
        executable = ffmpeg_executable()
        command = [executable, "-hide_banner", "-encoders"]
        encoders = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (ValueError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        return Check("ffmpeg", "missing", str(error), remedy)
    if "libx264" not in encoders:
        return Check("ffmpeg", "missing", f"{executable} has no libx264", remedy)
    return Check("ffmpeg", "ok", executable)


def check_cache() -> Check:
    """The folder of pretrained files can be written to."""
    cache = cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            pass
    except OSError as error:
        return Check("cache", "missing", f"{cache}: {error.strerror}", "point SFUMATO_CACHE at a writable folder")
    return Check("cache", "ok", str(cache))


def check_landmarks() -> Check:
    """Find the face in the vendored picture for real, when the detector's file has been fetched."""
    name = "face landmarks"
    if not is_cached(find("face_landmarker")):
        return Check(name, "note", "the detector's file is not fetched yet", "sfumato assets fetch face_landmarker")
    try:
        from pipelines.landmarks import create_detector
        from pipelines.video import read_image

        detector = create_detector()
        image = read_image(fetch("mona_lisa"))
        started = time.perf_counter()
        faces = detector.detect(image)
        milliseconds = (time.perf_counter() - started) * 1000
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return Check(name, "missing", str(error), "mend the rows above, then sfumato assets verify")
    if len(faces) != 1:
        return Check(name, "missing", f"{len(faces)} faces found in the Mona Lisa", "sfumato assets verify")
    return Check(name, "ok", f"{detector.name} finds the Mona Lisa in {milliseconds:.0f} ms")


def check_port(port: int) -> Check:
    """The port of `sfumato serve` is free on loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: closed connections linger
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            return Check("port", "note", f"{port}: {error}", "sfumato serve --port another one")
    return Check("port", "ok", f"{port} is free")


def _show(checks: Sequence[Check]) -> None:
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "note": "yellow", "missing": "red"}
    table = Table(box=None, pad_edge=False)
    for heading in ("", "check", "found", "what to do"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        # Text, not markup: "packages [training]" is no style.
        state = Text(check.state, style=colours[check.state])
        table.add_row(state, Text(check.name), Text(check.found), Text(check.remedy))
    console().print(table)
