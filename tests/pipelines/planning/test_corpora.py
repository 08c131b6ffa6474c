"""Corpora as people have them, through the real command: frames, missing files, a data set's own names, odd names."""

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines import assets
from pipelines.media.video import decode

Run = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[3]
SMALL = ("--size", "64", "--min-frames", "2", "--frames-per-clip", "4", "--workers", "1", "--trial-clips", "0")


def cut(source: str, start: float, seconds: float, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    clip = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-ss", str(start), "-t", str(seconds)]
    subprocess.run([*clip, "-i", str(assets.fetch(source)), "-an", str(target)], check=True)


def read(root: Path, pattern: str) -> list[dict[str, Any]]:
    return [row for path in sorted(root.glob(pattern)) for row in pq.read_table(path).to_pylist()]


@pytest.mark.slow
def test_frames_give_the_row_of_their_film_and_missing_files_are_rows(tmp_path: Path, run_sfumato: Run) -> None:
    cut("clip_single_face", 0, 0.6, tmp_path / "film.mp4")
    (tmp_path / "frames").mkdir()
    for frame in decode(tmp_path / "film.mp4"):
        Image.fromarray(frame.image).save(tmp_path / "frames" / f"{frame.index}.png")
    (tmp_path / "m.csv").write_text("Path;Identity\nfilm.mp4; 1\nframes;2\ngone.mp4;3\n")
    command = (str(tmp_path / "m.csv"), str(tmp_path / "out"), *SMALL, "--frame-rate", "30", "--val-fraction", "0")
    done = run_sfumato("preprocess", *command, "--test-fraction", "0")
    assert done.returncode == 0, done.stderr
    assert "3 films, 3 identities (from the manifest), layout manifest" in done.stdout
    assert "1 of 3 files that" in done.stdout
    assert "line 4: gone.mp4" in done.stdout
    assert "gone.mp4 failed (missing): the manifest names it, and it does not exist" in done.stdout
    rows = {row["identity"]: row for row in read(tmp_path / "out", "clips/split=train/part-?????.parquet")}
    assert rows.keys() == {"1", "2"}
    same = ("fps_numerator", "fps_denominator", "width", "height", "frame_index", "frame_jpeg", "landmarks", "end_us")
    assert {name: rows["2"][name] for name in same} == {name: rows["1"][name] for name in same}
    assert rows["2"]["source"] == "frames/"

    cut("clip_carphone", 0, 0.6, tmp_path / "gone.mp4")
    done = run_sfumato("retry", str(tmp_path / "out"), "--workers", "1")
    assert "1 of 1 failed clips did not fail again" in done.stdout, done.stderr
    assert {row["identity"] for row in read(tmp_path / "out", "clips/split=train/part-?????.parquet")} == {
        "1",
        "2",
        "3",
    }


def commands_of_the_page(verb: str) -> list[list[str]]:
    """The arguments of the commands with this verb in docs/how-to/data-sets.md."""
    lines = (ROOT / "docs" / "how-to" / "data-sets.md").read_text().splitlines()
    return [shlex.split(line)[3:] for line in lines if line.startswith(f"$ sfumato {verb} ")]


@pytest.mark.slow
def test_the_pages_command_makes_a_data_set_of_a_tree_like_crema_d(tmp_path: Path, run_sfumato: Run) -> None:
    films = tmp_path / "CREMA-D" / "VideoFlash"
    cut("clip_carphone", 0, 0.6, films / "1001_DFA_ANG_XX.flv")
    cut("clip_single_face", 0, 0.6, films / "1002_DFA_ANG_XX.flv")
    (films / "._1001_DFA_ANG_XX.flv").write_bytes(b"\0\5\26\7")
    (arguments,) = (line for line in commands_of_the_page("preprocess") if "crema-d" in line)
    done = run_sfumato("preprocess", *arguments, *SMALL[2:], folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 films, 2 identities (from the file names), layout crema-d" in done.stdout
    assert "2 done + 0 rejected + 0 failed = 2 inputs" in done.stdout
    rows = read(tmp_path / "crema-d", "clips/*/part-?????.parquet")
    found = sorted((row["identity"], row["video"], row["source"]) for row in rows)
    assert found == [(f"100{n}", "DFA_ANG_XX", f"100{n}_DFA_ANG_XX.flv") for n in (1, 2)]
    assert "ODbL 1.0" in (tmp_path / "crema-d" / "README.md").read_text()


@pytest.mark.slow
def test_the_pages_other_commands_have_flags_that_exist(tmp_path: Path, run_sfumato: Run) -> None:
    for verb in ("preprocess", "meta-train"):
        for arguments in commands_of_the_page(verb):
            done = run_sfumato(verb, *arguments, folder=tmp_path)
            assert "does not exist" in done.stderr or "no data set" in done.stderr, done.stderr


@pytest.mark.slow
def test_a_tar_in_the_current_folder_made_on_a_mac(tmp_path: Path, run_sfumato: Run) -> None:
    cut("clip_carphone", 0, 0.6, tmp_path / "in" / "TEDx :: 100% #1?.mp4")
    (tmp_path / "in" / "._TEDx :: 100% #1?.mp4").write_bytes(b"\0\5\26\7")
    subprocess.run(["tar", "-cf", "films.tar", "-C", "in", "."], check=True, cwd=tmp_path)
    done = run_sfumato("preprocess", "films.tar", "out :: two", *SMALL, folder=tmp_path)
    assert "1 done + 0 rejected + 0 failed = 1 inputs" in done.stdout, done.stderr
    (row,) = read(tmp_path / "out :: two", "clips/*/part-?????.parquet")
    assert row["source"] == "films.tar/TEDx :: 100% #1?.mp4"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--identity-from", "("), "is not a regular expression"),
        (("--identity-from", "(?P<identity>x)"), "--identity-from finds no identity in 2 of 2 films: ann.mp4, bob.mp4"),
        (("--layout", "grid"), "2 of 2 films below .* are not named as layout grid asks"),
        (("--layout", "frames"), "no folder of frames in .*looked for .jpeg, .jpg, .png"),
        (("--layout", "grad"), "invalid choice"),
        (("--test-list", "list.txt"), "1 of its 2 names are no identity of the films: anne"),
        (("--frame-rate", "0"), "frame_rate must lie in"),
    ],
)
def test_a_flag_that_does_not_fit_is_refused_in_one_line(
    flags: tuple[str, str], message: str, tmp_path: Path, run_sfumato: Run
) -> None:
    for name in ("ann.mp4", "bob.mp4"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"")
    (tmp_path / "list.txt").write_text("anne\nbob\n")
    done = run_sfumato("preprocess", "in", "out", *flags, folder=tmp_path)
    assert done.returncode != 0
    assert re.search(message, done.stderr + done.stdout), done.stderr
    assert not (tmp_path / "out").exists()
