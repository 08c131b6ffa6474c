"""The page in a real browser, on a real port: what a person does from a picture to a video and back to nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from web.browser import CHROMIUM, Browser
from web.page_service import PageService

pytestmark = [pytest.mark.long, pytest.mark.skipif(not CHROMIUM, reason="no Chromium on PATH")]
KEY = "an-api-key-of-some-length"
PORTRAIT = "document.querySelector('.portrait')"
FILM = "document.querySelector('.film')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser") / "profile") as opened:
        yield opened


def text(browser: Browser) -> str:
    shown: str = browser.evaluate("document.querySelector('main').innerText")
    return shown


def shows(browser: Browser, words: str) -> None:
    browser.until(f"document.querySelector('main').innerText.includes({json.dumps(words)})")


def move(browser: Browser, slider: str, value: float) -> None:
    """Move a slider, and wait for the still."""
    picture = "document.querySelector('.portrait').src"
    before = browser.evaluate(picture)
    field = f"document.querySelector('#slider-{slider}')"
    browser.evaluate(f"{field}.value = {value}; {field}.dispatchEvent(new Event('input'))")
    browser.until(f"{picture} !== {json.dumps(before)} && {PORTRAIT}.complete && {PORTRAIT}.naturalWidth === 64")


def brightness(browser: Browser) -> int:
    """The red of the shown still's first pixel."""
    level: int = browser.evaluate(
        "(() => { const page = document.createElement('canvas').getContext('2d');"
        f"page.drawImage({PORTRAIT}, 0, 0); return page.getImageData(0, 0, 1, 1).data[0]; }})()"
    )
    return level


def test_a_person_makes_an_avatar_and_videos_and_deletes_them(browser: Browser, tmp_path: Path) -> None:
    Image.new("RGB", (120, 160), (200, 150, 100)).save(picture := tmp_path / "me.png")
    with PageService(tmp_path, consent=True, step_s=0.2) as service:
        browser.open(service.url)
        browser.choose_files("#pictures", picture)
        browser.until("document.querySelector('.thumbnails img').naturalWidth === 120")
        browser.click("Make the avatar")
        assert browser.evaluate("document.querySelector('#agree').validity.valueMissing"), "consent is required"
        browser.click("I agree to this statement")
        browser.click("Make the avatar")
        browser.until(f"{PORTRAIT}.naturalWidth")
        assert browser.evaluate("document.querySelector('.crop').style.left") == "20%"
        shows(browser, "Consent: I am the person in these pictures")

        browser.choose_files("#driver-file", tmp_path / "made.mp4")
        browser.until(
            "document.querySelector('.drivers input:checked').closest('.card').innerText.includes('made.mp4')"
        )
        browser.click("Make the video")
        browser.until("document.querySelector('.preview').naturalWidth")
        shows(browser, "Drawing frames: frame")
        browser.evaluate("document.querySelector('main').dataset.ready = ''; location.reload()")
        shows(browser, "The video is being made")
        browser.until(f"{FILM}.duration === 2")
        browser.evaluate(f"{FILM}.play()")
        browser.until(f"{FILM}.currentTime > 0 && document.querySelector('.driver').currentTime > 0")

        browser.click("Make another")
        browser.until("document.querySelector('.card .frame').naturalWidth > 0")
        browser.click("Sliders")
        move(browser, "smile", 0.5)
        assert abs(brightness(browser) - 170) <= 2
        move(browser, "smile", 1)
        assert abs(brightness(browser) - 220) <= 2

        service.hold.set()
        browser.click("Make a video that moves there and back")
        shows(browser, "Next in the queue")
        browser.click("Cancel")
        shows(browser, "It was cancelled.")
        assert [job.state for job in service.jobs.list(kind="video")] == ["cancelled", "done"]

        browser.click("Back to the avatar")
        browser.click("Delete this avatar")
        browser.click("Keep it")
        assert service.jobs.list()
        browser.click("Delete this avatar")
        browser.click("Delete")
        shows(browser, "There are no avatars yet.")
        assert not service.jobs.list()
    assert browser.complaints == []


def test_the_face_that_is_pointed_at_is_the_one_that_is_meant(browser: Browser, tmp_path: Path) -> None:
    Image.new("RGB", (400, 200), (200, 150, 100)).save(group := tmp_path / "group.png")
    with PageService(tmp_path, step_s=0.0) as service:
        browser.open(service.url)
        browser.choose_files("#pictures", group)
        browser.click("Several people in the picture?")
        browser.until("document.querySelector('.pointing img').clientWidth > 0")
        browser.evaluate(
            "(() => { const picture = document.querySelector('.pointing img');"
            "const box = picture.getBoundingClientRect();"
            "picture.dispatchEvent(new MouseEvent('click', {bubbles: true, clientX: box.left + .75 * box.width,"
            "clientY: box.top + .5 * box.height})); })()"
        )
        assert browser.evaluate("document.querySelector('.spot').style.left") == "75%"
        browser.click("Make the avatar")
        browser.until(f"{PORTRAIT}.naturalWidth")
        assert service.jobs.list(kind="avatar")[0].request.face == "300,100"
        browser.open(f"{service.url}/#/")
        browser.choose_files("#pictures", group)
        browser.evaluate("document.querySelector('#face').value = '1'")
        browser.click("Make the avatar")
        browser.until(f"{PORTRAIT}.naturalWidth")
        assert [job.request.face for job in service.jobs.list(kind="avatar")] == ["1", "300,100"]
    assert browser.complaints == []


def test_a_shared_link_asks_for_the_key_first_and_media_are_fetched_with_it(browser: Browser, tmp_path: Path) -> None:
    with PageService(tmp_path, key=KEY, step_s=0.0) as service:
        avatar_id, job_id = "a" * 32, "b" * 32
        service.add_video(avatar_id, job_id)
        browser.open(f"{service.url}/#/job/{job_id}")
        for key, words in (("wrong", "This key is not known here."), (KEY, "The video")):
            browser.until("document.querySelector('#key')")
            browser.evaluate(f"document.querySelector('#key').value = '{key}'")
            browser.click("Sign in")
            shows(browser, words)
        browser.until(f"{FILM}.duration === 2 && {FILM}.src.startsWith('blob:')")
        browser.until("document.querySelector('.triptych img').src.startsWith('blob:')")
        assert KEY not in browser.evaluate("location.href + document.documentElement.outerHTML")
        browser.click("Sign out")
        browser.until("document.querySelector('#key')")
    browser.complaints[:] = [one for one in browser.complaints if "401 (Unauthorized)" not in one]
    assert browser.complaints == []
