"""axe-core finds no serious fault on any view of the page. npm fetches axe-core; without npm, this is left out."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from PIL import Image
from web.browser import CHROMIUM, Browser
from web.page_service import PageService

pytestmark = [pytest.mark.long, pytest.mark.skipif(not CHROMIUM, reason="no Chromium on PATH")]
_AXE = "axe-core@4.14.1"
_FAULTS = """axe.run(document).then(({violations, passes}) => passes.length < 5 ? ["axe checked nothing"] : violations
    .filter(({impact}) => impact === "serious" || impact === "critical")
    .map(({id, nodes}) => [id, nodes[0].html.slice(0, 200), nodes[0].failureSummary]))"""


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core."""
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("axe")
    if npm is None:
        pytest.skip("no npm on PATH")
    command = [npm, "pack", _AXE, "--pack-destination", str(folder), "--silent"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        pytest.skip(f"npm cannot fetch {_AXE}: {done.stderr.strip()[-200:]}")
    (package,) = folder.glob("*.tgz")
    with tarfile.open(package) as files:
        source = files.extractfile("package/axe.min.js")
        assert source is not None
        return source.read().decode()


def faults(browser: Browser, axe: str, view: str) -> list[str]:
    """Return the serious faults of what is shown, in light and in dark mode."""
    browser.evaluate(f"{axe}; 0")
    found = []
    for scheme in ("light", "dark"):
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        found += [f"{view}, {scheme}: {json.dumps(each)}" for each in browser.evaluate(_FAULTS)]
    return found


def test_no_view_has_a_serious_fault(axe: str, tmp_path: Path) -> None:
    Image.new("RGB", (120, 160), (200, 150, 100)).save(picture := tmp_path / "me.png")
    avatar_id, job_id = "a" * 32, "b" * 32
    with Browser(tmp_path / "profile") as browser, PageService(tmp_path, step_s=0.0) as service:
        service.add_video(avatar_id, job_id)
        browser.open(service.url)
        browser.choose_files("#pictures", picture)
        browser.until("document.querySelector('.thumbnails img').naturalWidth === 120")
        found = faults(browser, axe, "new portrait")
        browser.open(f"{service.url}/#/avatar/{avatar_id}")
        browser.until("document.querySelector('.portrait')")
        found += faults(browser, axe, "avatar")
        browser.click("Options")
        browser.click("Sliders")
        found += faults(browser, axe, "sliders")
        browser.click("Delete this avatar")
        browser.until("document.querySelector('dialog')")
        found += faults(browser, axe, "question")
        browser.click("Keep it")
        browser.open(f"{service.url}/#/job/{job_id}")
        browser.until("document.querySelector('.film')")
        found += faults(browser, axe, "video")
        browser.open(f"{service.url}/#/library")
        browser.until("document.querySelectorAll('.card').length >= 2")
        found += faults(browser, axe, "library")
        browser.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True)
        found += faults(browser, axe, "library on a phone")
    assert not found, "\n".join(found)
