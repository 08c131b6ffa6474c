"""The page of previews, and what the command says of them."""

from pathlib import Path

from serving.batch.results import contact_page
from serving.batch.results.preview_page import PairPreview, preview_result
from serving.batch.results.report import Row

CALM = PairPreview("ann--talk")
WARNED = PairPreview("zoe & co--talk", ("driver: no face in 2 of 16 frames (at 0.0, 0.1 s)",))
FAILED = PairPreview("bob--talk", reason="bob.png: no face <found>")


def test_pairs_with_warnings_come_first_and_names_are_escaped(tmp_path: Path) -> None:
    result = preview_result(str(tmp_path), [CALM, WARNED, FAILED], ["a note"], 1.5)
    page = (tmp_path / "previews" / "index.html").read_text()
    assert page.index("zoe &amp; co--talk") < page.index("ann--talk")
    assert 'src="zoe%20%26%20co--talk.webp"' in page
    assert "no face in 2 of 16 frames" in page
    assert "bob.png: no face &lt;found&gt;" in page
    assert (result.ok, result.counts) == (True, {"previews": 2, "failed": 1})
    assert result.notes == ("a note", f"zoe & co--talk: {WARNED.warnings[0]}", f"bob--talk: {FAILED.reason}")
    pictures = [f"{tmp_path}/previews/{one.name}.webp" for one in (CALM, WARNED)]
    assert [file.where for file in result.made] == [f"{tmp_path}/previews/index.html", *pictures]


def test_without_any_picture_the_command_has_failed(tmp_path: Path) -> None:
    assert not preview_result(str(tmp_path), [FAILED], (), 0.1).ok


def test_the_contact_page_links_to_a_preview_that_is_there() -> None:
    rows = [Row(name, "done", video=f"{name}.mp4") for name in ("ann--talk", "bob--talk")]
    page = contact_page.render(rows, {"previews/ann--talk.webp"})
    assert 'href="previews/ann--talk.webp"' in page
    assert "bob--talk.webp" not in page
