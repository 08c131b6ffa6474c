"""Faces that are hard to draw, and pictures that do not belong together, by their numbers in the list of bad inputs.

They go through `pose` and `fine-tune`; `animate` has them in tests/serving/test_bad_faces.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bad_faces import make_faces
from PIL import Image

import sfumato

pytestmark = pytest.mark.slow

NO_FACE = "no face found"
CASES: dict[str, tuple[str, tuple[str, ...], str | None]] = {
    "13 none": ("13 none", (), NO_FACE),
    "14 painting": ("14 painting", (), None),
    "15 the second of two": ("15 two", ("--face", "1"), None),
    "15 by a box": ("15 two", ("--face", "60,40,170,190"), None),
    "15 the third of two": ("15 two", ("--face", "2"), "face 2 was asked for, but only 2 found"),
    "15 the last of twenty": ("15 twenty", ("--face", "19"), None),
    "16 profile": ("16 profile", (), None),
    "16 profile away": ("16 profile away", (), NO_FACE),
    "17 on its side": ("17 on its side", (), None),
    "17 upside down": ("17 upside down", (), None),
    "18 cut by the border": ("18 cut by the border", (), NO_FACE),
    "19 12 px": ("19 12 px", (), None),
    "20 filling the picture": ("20 filling the picture", (), None),
    "21 occluded": ("21 occluded", (), None),
    "22 closed eyes": ("22 closed eyes", (), None),
    "23 dark": ("23 dark", (), None),
    "23 low contrast": ("23 low contrast", (), None),
    "23 sepia": ("23 sepia", (), None),
    "23 cracked": ("23 cracked", (), None),
    "48 device": ("/dev/null", (), "/dev/null is no regular file"),
}
"""Case -> picture, flags, and the reason of its failure; None: a picture is drawn."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    make_faces(folder)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_pose_draws_a_face_or_says_why_not(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, flags, reason = CASES[name]
    source = picture if picture.startswith("/") else str(folder / f"{picture}.png")
    out = tmp_path / "out.png"
    code = sfumato.main(["pose", source, *flags, "--smile", "1", "--max-size", "96", "--device", "cpu", "-o", str(out)])
    said = capsys.readouterr().err
    if reason is not None:
        assert code == 1
        (line,) = said.splitlines()
        assert source in line
        assert reason in line
        assert not out.exists()
        return
    assert code == 0, said
    assert "Traceback" not in said
    with Image.open(out) as drawn, Image.open(source) as own:
        assert max(drawn.size) == min(96, max(own.size))
        small = own.convert("RGB").resize(drawn.size, Image.Resampling.BOX)
        changed = np.abs(np.asarray(drawn).astype(int) - np.asarray(small)).max(axis=2)
    assert changed.max() > 10  # the smile


def test_pictures_that_do_not_belong_together_are_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    painting, astronaut = folder / "14 painting.png", folder / "21 somebody.png"
    again = tmp_path / "again.png"
    again.write_bytes(painting.read_bytes())
    common = ("--num-steps", "0", "--device", "cpu")
    for pictures, counts, notes in (
        ((painting, again), 1, ["1 of 2 pictures have the content of another one: each is used once"]),
        (
            (painting, astronaut, folder / "23 cracked.png"),
            3,
            ["21 somebody.png seems to show somebody else than 14 painting.png: an avatar is of one person"],
        ),
    ):
        out = tmp_path / f"avatar-{counts}"
        assert sfumato.main(["fine-tune", *map(str, pictures), *common, "-o", str(out), "--json"]) == 0
        said = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert said["counts"]["portraits"] == counts
        assert said["notes"] == notes
        drawn = tmp_path / f"{counts}.png"
        small = ("--yaw", "5", "--max-size", "96", "--device", "cpu")
        assert sfumato.main(["pose", str(out), *small, "-o", str(drawn)]) == 0
        assert drawn.exists()
        capsys.readouterr()


def test_no_picture_and_too_many_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """26."""
    many = [f"{number}.png" for number in range(65)]
    for pictures, words in (([], "at least one picture"), (many, "fine-tuning takes 1 to 64 pictures, got 65")):
        assert sfumato.main(["fine-tune", *pictures, "-o", str(tmp_path / "avatar")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
        assert not (tmp_path / "avatar").exists()
