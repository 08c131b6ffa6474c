"""The page in a real browser on a real service: `sfumato serve`, its workers, the bundled model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from web.browser import CHROMIUM, Browser
from web.front_end_process import free_port

from pipelines import assets

pytestmark = [pytest.mark.long, pytest.mark.skipif(not CHROMIUM, reason="no Chromium on PATH")]
_ROOT = Path(__file__).parents[4]
_PATIENT_S = 100.0  # on a machine that does much else
PORTRAIT = "document.querySelector('.portrait')"
FILM = "document.querySelector('.film')"
_BYTES = """["navigation", "resource"].flatMap((type) => performance.getEntriesByType(type))
    .reduce((sum, entry) => sum + entry.encodedBodySize, 0)"""
_STILLS = """performance.getEntriesByType("resource").filter((entry) => entry.name.endsWith("/stills"))
    .map((entry) => entry.duration)"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[str]:
    """The address of the command, which runs until the test has ended; whatever is left of it is killed."""
    port = free_port()
    flags = ("--data-dir", str(tmp_path / "data"), "--port", str(port), "--num-steps", "0")
    with subprocess.Popen(
        [sys.executable, "-m", "sfumato", "serve", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONUNBUFFERED": "1"},
        cwd=tmp_path,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        family = []
        try:
            said = []
            for line in process.stdout:
                said.append(line)
                if "Ctrl-C stops it" in line:
                    break
            assert "Ctrl-C stops it" in said[-1], "".join(said[-9:])
            family = psutil.Process(process.pid).children(recursive=True)
            yield f"http://127.0.0.1:{port}"
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
        finally:
            for each in family:
                if each.is_running():
                    each.kill()
            process.kill()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "profile") as opened:
        yield opened


def shows(browser: Browser, words: str) -> None:
    browser.until(f"document.querySelector('main').innerText.includes({json.dumps(words)})", _PATIENT_S)


def move(browser: Browser, slider: str, value: float) -> None:
    """Move a slider, and wait for the still."""
    before = browser.evaluate(f"{PORTRAIT}.src")
    field = f"document.querySelector('#slider-{slider}')"
    browser.evaluate(f"{field}.value = {value}; {field}.dispatchEvent(new Event('input'))")
    browser.until(f"{PORTRAIT}.src !== {json.dumps(before)} && {PORTRAIT}.complete", _PATIENT_S)


def test_from_a_picture_to_a_film_and_back_to_nothing(service: str, browser: Browser) -> None:
    begun = time.perf_counter()
    browser.open(service)
    shows(browser, "Bring a portrait to life")
    seconds, num_bytes = time.perf_counter() - begun, browser.evaluate(_BYTES)
    sys.stdout.write(f"first view: {num_bytes} bytes in {seconds:.2f} s\n")
    assert 10_000 < num_bytes < 100_000
    assert seconds < 5, "less than one where the machine does nothing else"

    browser.choose_files("#pictures", assets.fetch("mona_lisa"))
    browser.click("Make the avatar")
    browser.until(f"{PORTRAIT}.naturalWidth", _PATIENT_S)
    assert browser.evaluate("parseFloat(document.querySelector('.crop').style.width)") > 20, "per cent"
    browser.click("A man laughs")
    browser.click("Options")
    browser.evaluate("document.querySelector('#option-max_size').value = '512'")
    browser.click("Make the video")
    shows(browser, "Drawing frames: frame")
    browser.evaluate("document.querySelector('main').dataset.ready = ''; location.reload()")
    shows(browser, "The video is being made")
    browser.until("document.querySelector('.preview').naturalWidth", _PATIENT_S)
    browser.until(f"{FILM}.videoHeight === 512 && {FILM}.duration > 2", _PATIENT_S)
    browser.evaluate(f"{FILM}.play()")
    browser.until(f"{FILM}.currentTime > 0 && document.querySelector('.driver').currentTime > 0", _PATIENT_S)

    browser.click("Make another")
    browser.click("Sliders")
    for slider, value in (("smile", 1), ("yaw", 10), ("smile", 0), ("blink", 0.5)):
        move(browser, slider, value)
    stills = sorted(browser.evaluate(_STILLS))
    sys.stdout.write(f"stills at 512 px: {', '.join(f'{each:.0f}' for each in stills)} ms\n")
    assert stills[0] < 2000, "less than 400 ms where the machine does nothing else"
    assert browser.evaluate(f"Math.max({PORTRAIT}.naturalWidth, {PORTRAIT}.naturalHeight)") == 512

    browser.click("Make a video that moves there and back")
    shows(browser, "Drawing frames")
    browser.click("Cancel")
    shows(browser, "It was cancelled.")
    browser.click("Back to the avatar")
    browser.click("Delete this avatar")
    browser.click("Delete")
    shows(browser, "There are no avatars yet.")
    assert browser.complaints == []
