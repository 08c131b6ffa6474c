"""The contact page, and the posters on it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from serving.batch.results.contact_page import poster_name, render, write_page, write_poster
from serving.batch.results.report import Row

DONE = Row("ann--talk", "done", video="/out/ann--talk.mp4", seconds=12.34, frames=50, fps=25.0)
SKIPPED = Row("bob--talk", "skipped", video="/out/bob--talk.mp4", frames=50, fps=25.0)


def test_the_page_has_posters_links_times_and_counts() -> None:
    page = render([DONE, SKIPPED], {"posters/ann--talk.webp", "ann--talk.side-by-side.mp4"})
    assert "1 done, 1 skipped because they were there, 0 failed" in page
    assert '<a href="ann--talk.mp4"><div class="poster"><img src="posters/ann--talk.webp"' in page
    assert 'href="ann--talk.side-by-side.mp4"' in page
    assert "2.0 s · done in 12.3 s" in page
    assert "2.0 s · skipped: made before" in page
    assert "posters/bob--talk.webp" not in page
    assert 'href="bob--talk.side-by-side.mp4"' not in page


def test_a_reason_of_many_failures_stands_once_with_all_its_videos() -> None:
    failed = [Row(f"{name}--bad", "failed", reason="bad.mp4: no face") for name in ("ann", "bob")]
    page = render(failed, set())
    assert page.count("bad.mp4: no face") == 1
    assert "ann--bad, bob--bad" in page
    assert "0 done, 0 skipped because they were there, 2 failed" in page


def test_names_and_reasons_are_text_and_links_are_quoted() -> None:
    reason = "<script>alert(1)</script> & 'x'"
    row = Row("a#b?100%é <i>", "done", video="/out/x.mp4")
    page = render([row, Row("c", "failed", reason=reason)], set())
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#39;x&#39;" in page
    assert "<i>" not in page
    assert 'href="a%23b%3F100%25%C3%A9%20%3Ci%3E.mp4"' in page


def test_the_page_loads_nothing_from_elsewhere() -> None:
    page = render([DONE], {"posters/ann--talk.webp"})
    assert re.findall(r"(?:https?:)?//\S+", page) == []


@pytest.mark.slow
def test_thousands_of_videos_make_a_light_page() -> None:
    rows = [Row(f"person-{n}--talk", "done", video="v", seconds=1.0, frames=50, fps=25.0) for n in range(5000)]
    present = {poster_name(row.item) for row in rows}
    assert len(render(rows, present)) < 2_000_000


def test_a_poster_is_the_middle_frame_in_little(tmp_path: Path, make_video: Any) -> None:
    video = make_video("v.mp4", [10, 10, 200, 10], size=(480, 640))
    write_poster(video, str(tmp_path / "posters" / "v.webp"))
    with Image.open(tmp_path / "posters" / "v.webp") as poster:
        assert poster.size == (160, 120)
        assert poster.convert("L").getpixel((80, 60)) == pytest.approx(200, abs=8)


def test_the_page_of_a_folder_links_to_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "posters").mkdir()
    (tmp_path / "posters" / "ann--talk.webp").write_bytes(b"x")
    url = write_page(str(tmp_path), [DONE, SKIPPED])
    assert url == str(tmp_path / "index.html")
    page = Path(url).read_text()
    assert 'src="posters/ann--talk.webp"' in page
    assert page.count("no poster") == 1
