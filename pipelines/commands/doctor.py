"""`sfumato doctor`: check that this machine has everything Sfumato needs, and say how to install what is missing."""

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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from packaging.requirements import Requirement

from pipelines.assets import catalogue
from pipelines.assets.cache import cache_folder, fetch, find, is_cached
from pipelines.cli import CommandResult, console
from pipelines.commands.system_libraries import LIBRARIES, family_of, how_to_install
from pipelines.machine import available_cpus

State = Literal["ok", "note", "missing"]

_MIN_RAM_GIB = 4.0
_MIN_DISK_GIB = 5.0
_CACHE_REMEDY = "point SFUMATO_CACHE at a writable folder, or at one that `sfumato assets fetch` has filled"


@dataclass(frozen=True)
class Options:
    """Check this installation: packages, system libraries, ffmpeg, the face detector, disk, port.

    Exits 1 when something required is missing; the table says how to install it.
    """

    port: Annotated[int, tyro.conf.arg(metavar="PORT")] = 8000
    """The port that `sfumato serve` will listen on."""


@dataclass(frozen=True)
class Check:
    """One row of the table. `remedy` says what to do when `state` is not "ok"."""

    name: str
    state: State
    found: str
    remedy: str = ""


def run(options: Options) -> CommandResult:
    """Run every check and print a table to stderr. The result's `ok` is False when something required is missing."""
    started = time.monotonic()
    checks = [
        check_python(sys.version_info[:3]),
        check_machine(),
        check_gpu(),
        *check_packages(_requirements_of("sfumato"), _installed_version, _requirements_of),
        check_opencv_pair(_installed_version),
        *check_system_libraries(),
        check_ffmpeg(),
        check_cache(),
        check_landmarks(),
        check_port(options.port),
    ]
    _show(checks)
    missing = [check for check in checks if check.state == "missing"]
    return CommandResult(
        made=(),
        counts={state: sum(c.state == state for c in checks) for state in ("ok", "note", "missing")},
        seconds=time.monotonic() - started,
        ok=not missing,
        notes=tuple(f"{check.name}: {check.found}; {check.remedy}" for check in missing),
    )


def check_python(version: tuple[int, ...]) -> Check:
    """Check for Python 3.11 or 3.12, for which the pinned packages have wheels."""
    found = ".".join(map(str, version))
    if (3, 11) <= version < (3, 13):
        return Check("Python", "ok", found)
    return Check("Python", "missing", found, "install Python 3.11 or 3.12, then `make setup`")


def check_machine() -> Check:
    """Check CPU cores available to this process, memory, and free space on the disk of the working directory."""
    cores = available_cpus()
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    disk = shutil.disk_usage(Path.cwd()).free / 2**30
    found = f"{platform.machine()}, {cores} cores, {ram:.1f} GiB memory, {disk:.1f} GiB of disk free"
    if ram < _MIN_RAM_GIB or disk < _MIN_DISK_GIB:
        least = f"the demo wants {_MIN_RAM_GIB:.0f} GiB of memory and {_MIN_DISK_GIB:.0f} GiB of disk"
        return Check("machine", "note", found, least)
    return Check("machine", "ok", found)


def check_gpu() -> Check:
    """Report the CUDA devices that torch sees; none is fine."""
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


def _requirements_of(distribution: str) -> Iterable[str]:
    return importlib.metadata.requires(distribution) or ()


def check_packages(
    requirements: Iterable[str],
    version_of: Callable[[str], str | None],
    requirements_of: Callable[[str], Iterable[str]],
) -> list[Check]:
    """Compare installed versions with this distribution's own requirements, one check per extra.

    Args:
        requirements: as in the metadata: `name==1.0`, `name[part]>=2; extra == "training"`.
        version_of: distribution name -> installed version, None when it is not installed.
        requirements_of: distribution name -> its own requirements, to resolve `[part]`.
    """
    groups: dict[str, list[Requirement]] = {}
    for requirement in map(Requirement, requirements):
        extra = _extra_of(requirement)
        if requirement.name != "sfumato" and extra != "dev" and _applies(requirement, extra):
            groups.setdefault(extra, []).append(requirement)
            if requirement.extras and version_of(requirement.name):
                parts = map(Requirement, requirements_of(requirement.name))
                groups[extra] += [r for r in parts if _extra_of(r) in requirement.extras and _applies(r, _extra_of(r))]
    return [_check_group(extra, group, version_of) for extra, group in groups.items()]


def _check_group(extra: str, group: Sequence[Requirement], version_of: Callable[[str], str | None]) -> Check:
    versions = [(requirement, version_of(requirement.name)) for requirement in group]
    faults = [
        f"{requirement.name}{requirement.specifier} is {version or 'not installed'}"
        for requirement, version in versions
        if version is None or not requirement.specifier.contains(version, prereleases=True)
    ]
    name = f"packages [{extra}]" if extra else "packages"
    if not faults:
        return Check(name, "ok", f"{len(group)} as required")
    found = ", ".join(faults[:3]) + (f" and {len(faults) - 3} more" if len(faults) > 3 else "")
    if extra:
        return Check(name, "note", found, f"only if you want it: pip install '.[{extra}]' in the checkout")
    return Check(name, "missing", found, "make setup")


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _extra_of(requirement: Requirement) -> str:
    """Return the extra that `requirement` belongs to (the quoted word after `extra ==`), or "" for none."""
    _, found, rest = str(requirement.marker or "").partition('extra == "')
    return rest.partition('"')[0] if found else ""


def check_opencv_pair(version_of: Callable[[str], str | None]) -> Check:
    """Check that opencv-python and opencv-contrib-python, which install the same files, have the same version."""
    plain, contrib = version_of("opencv-python"), version_of("opencv-contrib-python")
    if plain == contrib and plain is not None:
        return Check("OpenCV", "ok", f"{plain}, both packages")
    found = f"opencv-python {plain or 'missing'}, opencv-contrib-python {contrib or 'missing'}"
    return Check("OpenCV", "missing", found, "make setup: both must be the pinned version")


def check_system_libraries() -> list[Check]:
    """Check the shared libraries that wheels expect from the system; on Linux only."""
    if sys.platform != "linux":
        return [Check("system libraries", "ok", f"not needed on {platform.system()}")]
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    family = family_of(release)
    return [_check_library(library, family) for library in LIBRARIES]


def _check_library(library: str, family: str) -> Check:
    try:
        ctypes.CDLL(library)
    except OSError as error:
        return Check(library, "missing", str(error), how_to_install(library, family))
    return Check(library, "ok", "loads")


def check_ffmpeg() -> Check:
    """Check for an ffmpeg with an H.264 encoder: the one on PATH, else imageio-ffmpeg's."""
    from pipelines.media.video import ffmpeg_executable

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
    """Check that the cache folder of pretrained files is writable, or holds what `sfumato assets fetch` fetches."""
    try:
        cache = cache_folder()
    except OSError as error:
        return Check("cache", "missing", str(error).partition(";")[0], _CACHE_REMEDY)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            pass
    except OSError as error:
        return _check_read_only(cache, error.strerror or str(error))
    return Check("cache", "ok", str(cache))


def _check_read_only(cache: Path, reason: str) -> Check:
    wanted = [asset for asset in catalogue.ASSETS.values() if asset.in_bulk]
    absent = [asset.name for asset in wanted if not is_cached(asset)]
    if not absent:
        return Check("cache", "ok", f"{cache}, read-only and complete")
    there = sum(is_cached(asset) and not asset.vendored for asset in wanted)
    if not there:
        return Check("cache", "missing", f"{cache}: {reason}", _CACHE_REMEDY)
    names = ", ".join(absent[:4]) + (f" and {len(absent) - 4} more" if len(absent) > 4 else "")
    return Check("cache", "note", f"{cache}, read-only, {there} files; it lacks {names}", _CACHE_REMEDY)


def check_landmarks() -> Check:
    """Detect the face in the vendored picture, if the detector's file has been fetched."""
    name = "face landmarks"
    if not is_cached(find("face_landmarker")):
        return Check(name, "note", "the detector's file is not fetched yet", "sfumato assets fetch face_landmarker")
    try:
        from pipelines.faces.detectors import create_detector
        from pipelines.media.images import read_image

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
    """Check that the port of `sfumato serve` is free on loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: ignore sockets in TIME_WAIT
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            return Check("port", "note", f"{port}: {error}", "sfumato serve --port another one")
    return Check("port", "ok", f"{port} is free")


def _show(checks: Sequence[Check]) -> None:
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "note": "yellow", "missing": "red"}
    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in ("state", "name", "found"):
        table.add_column(overflow="fold")
    for check in checks:
        # Text, not markup: rich would read "[training]" as a style.
        found = f"{check.found}\n-> {check.remedy}" if check.remedy else check.found
        table.add_row(Text(check.state, style=colours[check.state]), Text(check.name), Text(found))
    screen = console()
    if not screen.is_terminal:
        screen.width = 200  # a log file does not fold lines
    screen.print(table)
