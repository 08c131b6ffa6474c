"""Bad pictures and films through every verb that opens them, by their numbers in the list of bad inputs.

All lie in one folder and go through one run of `animate`, beside a good picture and a good film: each ends in its own
way and harms no other. `preprocess` has the same films in tests/pipelines/commands/test_bad_drivers.py.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bad_pictures
import bad_videos
import numpy as np
import pytest

from pipelines import assets
from pipelines.faces.detectors import create_detector
from pipelines.media.video import decode, probe
from pipelines.storage.parquet import read_table
from serving.service.errors import BadInput
from serving.service.http import uploads
from training.avatars.portraits import find_portraits

pytestmark = pytest.mark.long

_NO_PICTURE = "is not a .* picture"
_PICTURES = {
    "1.jpg": _NO_PICTURE,
    "2.jpg": "is a broken picture",
    "3.jpg": _NO_PICTURE,
    "5.png": "30000x30000 exceeds 100,000,000 pixels|too many pixels",
    "6.png": "too large",
    "10 1x1.png": "no face found",
    "10 8x4000.png": "no face found",
    "10 60x40.png": "no face found",
    "12 svg.png": _NO_PICTURE,
    "12 eps.jpg": _NO_PICTURE,
    "12 psd.png": _NO_PICTURE,
    "12 broken heic.heic": "picture",
    "48 pipe.png": "no regular file",
    "48 nothing.png": "does not exist|No such file",
}
"""Name -> what the reason says."""
_USABLE_PICTURES = (
    *("4 usable png.jpg", "7 usable.webp", "7 usable.gif", "8 usable CMYK.jpg", "8 usable P.png", "8 usable L.png"),
    *("8 usable RGBA.png", "8 usable LA.png", "8 usable 16 bits.png", "9 usable turned.jpg", "10 usable odd.png"),
    *("10 usable small.png", "11 usable pages.tif"),
)
_FILMS = {
    "27.mp4": "holds no frame|no video",
    "29.mp4": "29.mp4 holds no video stream",
    "30.mp4": "30.mp4 is not a readable video",
    **{f"46 {name}.mp4": "is not a readable video" for name in ("hls", "concat", "sdp", "dash")},
    "broken\n  name.mp4": "broken name.mp4 is not a readable video",
    "48 nothing.mp4": "does not exist|No such file",
    "48 pipe.mp4": "no regular file",
}
_NUM_FRAMES = 8


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The films of the list, of eight frames, and `good.mp4`."""
    folder = tmp_path_factory.mktemp("films") / "in"
    folder.mkdir()
    good = folder / "good.mp4"
    bad_videos.ffmpeg("-i", assets.fetch("clip_carphone"), "-frames:v", _NUM_FRAMES, "-c", "copy", good)
    for make in (
        *(bad_videos.lying_headers, bad_videos.picture_formats, bad_videos.playlists),
        *(bad_videos.odd_names, bad_videos.not_files),
    ):
        make(good, folder)
    bad_videos.broken(good, folder, keyframe_every=1)
    bad_videos.frame_rates(good, folder, loops=1)
    bad_videos.sounds(good, folder, seconds=0.4)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    bad_pictures.make(folder)
    return folder


@dataclass(frozen=True)
class Run:
    """What one `animate` made of a folder."""

    out: Path
    reasons: dict[str, str | None]
    """File name of the source or driver -> reason of failure; None: the film is there."""


@pytest.fixture(scope="module")
def animate(
    run_sfumato: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Run]:
    def run(role: str, **inputs: Path) -> Run:
        out = tmp_path_factory.mktemp(f"out-{role}")
        small = ("--frame=crop", "--max-size=64", "--no-side-by-side", "--no-mosaic", "--json")
        done = run_sfumato("animate", "-s", str(inputs["source"]), "-d", str(inputs["driver"]), "-o", str(out), *small)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        rows = [row for path in (out / "report").iterdir() for row in read_table(str(path)).to_pylist()]
        counts = json.loads(done.stdout.splitlines()[-1])["counts"]
        assert counts["done"] + counts["failed"] == len(rows)
        return Run(out, {Path(row[role] or row["item"]).name: row["reason"] for row in rows})

    return run


@pytest.fixture(scope="module")
def by_drivers(films: Path, pictures: Path, animate: Callable[..., Run]) -> Run:
    return animate("driver", source=pictures / "4 usable png.jpg", driver=films)


@pytest.fixture(scope="module")
def by_sources(films: Path, pictures: Path, animate: Callable[..., Run]) -> Run:
    return animate("source", source=pictures, driver=films / "good.mp4")


def test_animate_accounts_for_every_film_and_every_picture(
    films: Path, pictures: Path, by_drivers: Run, by_sources: Run
) -> None:
    assert set(by_drivers.reasons) == {path.name for path in films.iterdir() if path.name != "48 folder.mp4"}
    assert set(by_sources.reasons) == {*_PICTURES, *_USABLE_PICTURES}
    for reason in filter(None, (*by_drivers.reasons.values(), *by_sources.reasons.values())):
        assert len(reason.splitlines()) == 1
        assert "Error" not in reason  # an exception that nobody expected is told with its class


@pytest.mark.parametrize("name", _FILMS)
def test_a_film_that_cannot_be_used_has_its_reason_in_animate_and_in_an_upload(
    name: str, films: Path, by_drivers: Run
) -> None:
    reason = by_drivers.reasons[name]
    assert reason is not None
    assert re.search(_FILMS[name], reason)
    if not name.startswith("48"):  # an upload is a regular file
        with pytest.raises(BadInput) as refused:
            uploads.check_driver(films / name, "the driver")
        assert str(films) not in str(refused.value)


def test_every_other_film_moves_the_portrait_for_all_its_frames(films: Path, by_drivers: Run) -> None:
    usable = {name for name, reason in by_drivers.reasons.items() if reason is None}
    assert usable == set(by_drivers.reasons) - set(_FILMS)
    for video in by_drivers.out.glob("*--*.mp4"):
        info = probe(video)
        assert info.num_frames == sum(1 for _ in decode(video))
    (good,) = by_drivers.out.glob("*--good.mp4")
    assert probe(good).num_frames == _NUM_FRAMES
    for name in usable:
        uploads.check_driver(films / name, "the driver")


@pytest.mark.parametrize("name", _PICTURES)
def test_a_picture_that_cannot_be_used_has_its_reason_in_every_verb(
    name: str, pictures: Path, by_sources: Run, detector: Any
) -> None:
    words, reason = _PICTURES[name], by_sources.reasons[name]
    assert reason is not None
    assert re.search(words, reason)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        find_portraits([str(pictures / name)], detector)
    if not name.startswith(("48", "10")):  # an upload is a regular file, and faces are looked for later
        with pytest.raises(BadInput) as refused:
            uploads.check_picture(pictures / name, "picture 1")
        assert str(pictures) not in str(refused.value)


@pytest.mark.parametrize("verb", ["fine-tune", "pose"])
@pytest.mark.parametrize("name", ["2.jpg", "5.png", "12 svg.png", "48 pipe.png"])
def test_fine_tune_and_pose_say_the_same_in_one_line(
    verb: str, name: str, pictures: Path, tmp_path: Path, run_sfumato: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = run_sfumato(verb, str(pictures / name), "-o", str(tmp_path / "avatar.png"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert name in line
    assert re.search(_PICTURES[name], line)
    assert not (tmp_path / "avatar.png").exists()


@pytest.mark.parametrize("name", _USABLE_PICTURES)
def test_a_usable_picture_gives_the_same_face_in_every_verb(
    name: str, pictures: Path, by_sources: Run, detector: Any
) -> None:
    assert by_sources.reasons[name] is None
    uploads.check_picture(pictures / name, "picture 1")
    (portrait,) = find_portraits([str(pictures / name)], detector)
    width, height = (48, 74) if "small" in name else (bad_pictures.WIDTH, bad_pictures.HEIGHT)
    # The tip of her nose, found by eye.
    assert np.abs(portrait.landmarks[30] / (width, height) - (0.442, 0.27)).max() < 0.03


@pytest.fixture(scope="module")
def detector() -> Any:
    return create_detector()
