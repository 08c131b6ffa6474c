import dataclasses
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipelines.curation.preview_page import render, short
from pipelines.curation.preview_sample import sample

Make = Callable[..., Any]
HOSTILE = '<script>alert("1")</script><img src=x onerror=alert(2)>\'"'.replace("/", "∕")


class Page(HTMLParser):
    """The elements of a page, and the text of each kind."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def find(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [found for kind, found in self.elements if kind == tag and wanted.items() <= found.items()]


@pytest.fixture
def shards(make_row: Make, make_reject: Make, small_shard: Make) -> list[Any]:
    picture = make_row("x", "y", "z", 1).frame_jpeg[0]
    rejects = (
        make_reject(
            "bob", "v2", "a", "too_small", frames_seen=12, frames_with_face=11, face_size=20.25, thumbnail=picture
        ),
        make_reject("bob", "v3", "a", "unreadable"),
    )
    return [
        small_shard((make_row("ann", "v1", "a", 9), make_row("bob", "v1", "a", 12)), rejects),
        small_shard((make_row("cat", "v1", "a", 10),), split="val"),
    ]


def page_of(root: Path, shards: list[Any], make_dataset: Make, **changes: Any) -> tuple[str, Page]:
    manifest = dataclasses.replace(make_dataset(str(root), shards), **changes)
    text = render(manifest, sample(str(root), manifest, 60, seed=3), seed=3)
    return text, Page(text)


def test_the_page_shows_every_clip_its_landmarks_and_what_was_refused(
    tmp_path: Path, shards: list[Any], make_dataset: Make
) -> None:
    _, page = page_of(tmp_path, shards, make_dataset)
    assert [strip["data-name"] for strip in page.find("figure")] == ["ann/v1/a", "bob/v1/a", "cat/v1/a"]
    assert len(page.find("button", class_="tile")) == 15
    assert len(page.find("svg", class_="face")) == 15
    assert len(page.find("path")) == 15 * 9  # the lines of a face
    pictures = [found["src"] or "" for found in page.find("img")]
    assert sum(src.startswith("data:image/webp;base64,") for src in pictures) == 15
    assert sum(src.startswith("data:image/jpeg;base64,") for src in pictures) == 1
    assert re.search(r"3 done \+\s+2 rejected \+\s+0 failed\s+= 5", page.text)
    assert "face in 11 of 12 frames · 20.2 px" in page.text
    assert "no picture" in page.text
    assert "Sampled from all 2 shards: 3 of 3 clips, chosen with seed 3." in page.text
    assert [found["data-chart"] for found in page.find("div") if "data-chart" in found] == [
        *("pose coverage", "Yaw", "Pitch", "Roll", "Sharpness", "Brightness", "Mouth openness", "Eye openness"),
        *("Frames per clip", "Face size of refused clips"),
    ]
    assert "decode" in page.text


def test_a_landmark_lies_where_it_belongs_on_its_picture(tmp_path: Path, shards: list[Any], make_dataset: Make) -> None:
    _, page = page_of(tmp_path, shards, make_dataset)
    row = shards[0].rows[0]
    (box,) = {found["viewbox"] for found in page.find("svg", class_="face")}
    assert box == "-0.5 -0.5 32 32"  # pixel centres lie at whole numbers
    jaw = page.find("path", stroke="#ffffff")[0]["d"] or ""
    ends = {tuple(f"{value:.1f}" for value in row.landmarks[i, 0]) for i in range(9)}
    assert tuple(jaw[1:].split("L")[0].split()) in ends
    assert jaw.count("L") == 16


def test_the_page_fetches_nothing_and_runs_one_script(tmp_path: Path, shards: list[Any], make_dataset: Make) -> None:
    text, page = page_of(tmp_path, shards, make_dataset)
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    assert not page.find("link")
    assert all((found.get("src") or "data:").startswith("data:") for _, found in page.elements)
    assert len(page.find("script")) == 1
    (policy,) = [found["content"] or "" for found in page.find("meta") if found.get("http-equiv")]
    assert re.fullmatch(
        r"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-[\w+/=]{44}'", policy
    )


def test_names_and_messages_that_are_code_are_text(
    tmp_path: Path, shards: list[Any], make_row: Make, make_reject: Make, make_dataset: Make
) -> None:
    reject = dataclasses.replace(make_reject(HOSTILE, HOSTILE, "a", "no_face"), message=HOSTILE)
    shards[0] = dataclasses.replace(shards[0], rows=(make_row(HOSTILE, HOSTILE, HOSTILE),), rejects=(reject,))
    _, page = page_of(tmp_path, shards, make_dataset, source=HOSTILE, licence=HOSTILE)
    assert len(page.find("script")) == 1
    assert not [found for _, found in page.elements if any(name.startswith("on") for name in found)]
    assert not page.find("img", src="x")
    assert f"{HOSTILE}/{HOSTILE}/{HOSTILE}" in [strip["data-name"] for strip in page.find("figure")]
    assert page.text.count(HOSTILE) >= 6


@pytest.mark.slow
def test_the_same_data_and_seed_give_the_same_page(tmp_path: Path, shards: list[Any], make_dataset: Make) -> None:
    assert page_of(tmp_path / "a", shards, make_dataset)[0] == page_of(tmp_path / "b", shards, make_dataset)[0]


def test_an_empty_data_set_has_a_page(tmp_path: Path, small_shard: Make, make_dataset: Make) -> None:
    _, page = page_of(tmp_path, [small_shard()], make_dataset, stage_seconds={})
    assert "no clip gave a usable row" in page.text
    assert "nothing was refused" in page.text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.001, "0"),
        (3.0, "3"),
        (-12.34, "−12.3"),
        (0.256, "0.26"),
        (1234.5, "1,234"),
        (float("nan"), "unknown"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert short(value) == text
