"""`sfumato animate` through the real command: pairs files, numbers of workers, devices."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from web.front_end_process import free_port
from web.scraping import scraping

from pipelines import assets

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path, picture: Path, make_video: Callable[..., Path]) -> Path:
    """A folder with portrait.png, without a face, and talk.mp4."""
    make_video("talk.mp4", [10, 20])
    return tmp_path


def refused(done: subprocess.CompletedProcess[str], folder: Path, code: int = 2) -> str:
    """The one line of an error that is found before any work begins."""
    assert done.returncode == code, done.stderr
    assert not (folder / "out").exists()
    (line,) = done.stderr.splitlines()
    return line.removeprefix("sfumato animate: error: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source\nportrait.png\n", "{pairs} line 1: column 'driver' is missing"),
        ("source,driver\nportrait.png,\n", "{pairs} line 2: the cell 'driver' is empty"),
        ("source,driver\nportrait.png,none.mp4\n", "{pairs} line 2: driver: {folder}/none.mp4 does not exist"),
        (
            "source,driver\nportrait.png,talk.mp4\nportrait.png,talk.mp4\n",
            "{pairs} lines 2 and 3: both make portrait--talk.mp4; give them different names",
        ),
        (
            "source,driver,gaze\nportrait.png,talk.mp4,4\n",
            "{pairs} line 2: gaze must lie in [0, 3], got 4.0",
        ),
        (
            "source,driver,parts\nportrait.png,talk.mp4,lips nose\n",
            "{pairs} line 2: parts must be of lips, eyes, pose, brows, gaze, got 'nose'",
        ),
    ],
)
def test_a_wrong_pairs_file_is_one_line_with_its_line_number(
    folder: Path, run_sfumato: Run, text: str, message: str
) -> None:
    pairs = folder / "pairs.csv"
    pairs.write_text(text)
    done = run_sfumato("animate", "--pairs", str(pairs), "-o", str(folder / "out"))
    assert refused(done, folder) == message.format(pairs=pairs, folder=folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message", "code"),
    [
        (["--pairs", "{folder}/none.csv"], "{folder}/none.csv does not exist", 2),
        (
            ["--pairs", "{folder}/p.csv", "-d", "{folder}/talk.mp4"],
            "--pairs names sources and drivers itself: give it without --source and --driver",
            2,
        ),
        (["-s", "{folder}/portrait.png"], "no driver given: --driver is required", 2),
        (
            ["-s", "{folder}/portrait.png", "-d", "{folder}/talk.mp4", "--fps", "often"],
            "fps must be keep or a number of frames a second, got 'often'",
            1,
        ),
        (
            ["-s", "{folder}/portrait.png", "-d", "{folder}/talk.mp4", "--parts", "lips,ears"],
            "parts must be of lips, eyes, pose, brows, gaze, got 'ears'",
            1,
        ),
        (
            ["-s", "{folder}/portrait.png", "-d", "{folder}/talk.mp4", "--driver-face", "left"],
            "face must be a number from 0, a point X,Y or a box X0,Y0,X1,Y1 in pixels, got 'left'",
            1,
        ),
        (
            ["-s", "{folder}/portrait.png", "-d", "{folder}/talk.mp4", "--workers", "0"],
            "--workers must be at least 1, got 0",
            1,
        ),
        (
            ["-s", "{folder}/portrait.png", "-d", "{folder}/talk.mp4", "--workers", "2", "--gpus-per-worker", "1.5"],
            "--gpus-per-worker above 1 must be a whole number, got 1.5",
            1,
        ),
        (
            ["-s", "{folder}/portrait.png", "-d", "{folder}/talk.mp4", "--ray-address", "127.0.0.1:1"],
            "--ray-address 127.0.0.1:1: Connection refused",
            1,
        ),
        (
            ["-s", "{folder}/portrait.png", "-d", "{folder}/talk.mp4", "--device", "gpu"],
            "--device takes auto, cpu, cuda or cuda:N, not 'gpu'",
            1,
        ),
        (
            ["-s", "{folder}/portrait.png", "-d", "{folder}/talk.mp4", "--device", "cuda:99"],
            "--device cuda:99: there is no such CUDA device here",
            1,
        ),
    ],
)
def test_wrong_flags_are_one_line(folder: Path, run_sfumato: Run, flags: list[str], message: str, code: int) -> None:
    done = run_sfumato("animate", *(flag.format(folder=folder) for flag in flags), "-o", str(folder / "out"))
    assert refused(done, folder, code) == message.format(folder=folder)


@pytest.mark.slow
def test_pairs_are_animated_with_their_options(folder: Path, run_sfumato: Run) -> None:
    """Two videos of the Mona Lisa, one of them small; and a picture without a face."""
    (folder / "mona.jpg").symlink_to(assets.fetch("mona_lisa"))
    (folder / "clip.mp4").symlink_to(cut(assets.fetch("clip_carphone"), folder / "cut.mp4"))
    rows = [
        {"source": "mona.jpg", "driver": "clip.mp4", "name": "small", "max_size": 96},
        {"source": "mona.jpg", "driver": "clip.mp4", "name": "larger", "frame": "crop", "fps": 60},
        {"source": "portrait.png", "driver": "clip.mp4"},
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    address = f"127.0.0.1:{free_port()}"
    with scraping(address) as seen:
        done = run_sfumato(
            *("animate", "--pairs", str(folder / "pairs.jsonl"), "-o", str(folder / "out"), "--max-size", "128"),
            *("--no-side-by-side", "--no-mosaic", "--metrics-address", address, "--json"),
        )
    assert done.returncode == 0, done.stderr
    assert seen["sfumato_animate_videos_planned",] == 3
    assert 1 <= seen["sfumato_animate_videos_total", "status=done"] <= 2  # the command may end before the last is read
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["counts"] == {"done": 2, "skipped": 0, "failed": 1}
    assert answer["notes"][1:] == [f"portrait--clip: {folder}/portrait.png: no face found"]  # the first: signed by whom
    made = [Path(file["where"]).name for file in answer["made"]]
    assert made == ["index.html", "report", "small.mp4", "larger.mp4"]
    sizes = [json.loads((folder / "out" / f"{name}.json").read_text()) for name in ("small", "larger")]
    assert [(size["options"]["max_size"], size["options"]["frame"]) for size in sizes] == [(96, "full"), (128, "crop")]
    assert max(sizes[0]["width"], sizes[0]["height"]) == 96
    assert [(size["fps"], size["frames"]) for size in sizes] == [("30000/1001", 3), ("60", 6)]
    assert "no face found" in done.stderr  # in the table


@pytest.mark.slow
def test_a_folder_without_portraits_is_one_failure(folder: Path, run_sfumato: Run) -> None:
    (folder / "no faces").mkdir()
    done = run_sfumato(
        *("animate", "-s", str(folder / "no faces"), "-d", str(folder / "talk.mp4"), "-o", str(folder / "out")),
        "--json",
    )
    assert done.returncode == 1
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["counts"] == {"done": 0, "skipped": 0, "failed": 1}
    assert answer["notes"][0].startswith(f"{folder}/no faces holds neither avatars nor pictures")


def cut(clip: Path, to: Path) -> Path:
    """The first frames of a clip."""
    from pipelines.media.ffmpeg_process import ffmpeg_executable

    command = [ffmpeg_executable(), "-loglevel", "error", "-i", str(clip), "-frames:v", "3", "-an", str(to)]
    subprocess.run(command, check=True)
    return to
