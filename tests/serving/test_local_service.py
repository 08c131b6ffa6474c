"""The service on one machine: which GPUs workers see, and what becomes of jobs when its processes are killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from bad_videos import ffmpeg
from PIL import Image
from web.front_end_process import free_port
from web.serve_process import ServiceClient, cmdline, jobs_process, read_until, serving

from pipelines import assets
from serving.local_service import device_variables, local_service
from serving.service.config import API_KEY_VARIABLE, ServiceConfig

_NUM_FRAMES = 40


@pytest.mark.parametrize(
    ("num_gpus", "visible"),
    [
        (0.0, ["", "", "", ""]),
        (1.0, ["3", "5", "7", "9"]),
        (0.5, ["3", "3", "5", "5"]),
        (0.3, ["3", "3", "3", "5"]),
    ],
)
def test_each_worker_sees_its_gpus(num_gpus: float, visible: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,7,9")
    config = ServiceConfig("m", "d", num_gpus=num_gpus, num_finetuners=1, num_renderers=3)
    assert [device_variables(config, slot)["CUDA_VISIBLE_DEVICES"] for slot in range(4)] == visible


def test_a_worker_may_have_several_gpus_and_too_few_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    config = ServiceConfig("m", "d", num_gpus=2.0, num_renderers=2)
    assert device_variables(config, 1) == {"CUDA_VISIBLE_DEVICES": "2,3"}
    with pytest.raises(ValueError, match="3 workers need 6 GPUs, there are 4: give a smaller --num-gpus or fewer"):
        device_variables(config, 2)


@pytest.mark.slow
def test_a_front_end_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    config = ServiceConfig("m", str(tmp_path / "data"), port=free_port(), num_stills=0)
    with (
        pytest.raises(ValueError, match="the front end does not start: no API key"),
        local_service(config, lambda: None),
    ):
        pass
    assert not [each for each in psutil.Process().children() if "serving.service.front_end" in cmdline(each)]


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    with Image.open(assets.fetch("mona_lisa")) as picture:
        picture.resize((371, 577)).save(tmp_path / "portrait.png")
    return tmp_path / "portrait.png"


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """A film of 40 frames: rendering takes some seconds."""
    path = tmp_path / "driver.mp4"
    ffmpeg("-i", assets.fetch("clip_single_face"), "-frames:v", _NUM_FRAMES, "-c", "copy", path)
    return path


@pytest.mark.long
def test_84_85_87_each_job_ends_once_when_processes_are_killed_in_its_middle(
    model: Path, portrait: Path, driver: Path, tmp_path: Path
) -> None:
    """What runs jobs, a front end, the whole service, and Ctrl-C; it starts again on the same data."""
    port = free_port()
    client = ServiceClient(f"http://127.0.0.1:{port}")
    arguments = ("--model", str(model), "--port", str(port), "--num-steps", "0", "--num-stills", "0")
    with serving(tmp_path, *arguments, "--num-front-ends", "2") as process:
        read_until(process, "Ctrl-C stops it")
        family = psutil.Process(process.pid)
        avatar = client.make_avatar(portrait)
        client.until_done(avatar["id"])
        expected = client.make_video(avatar["avatar_id"], driver)
        client.until_done(expected)
        frames = client.frames_of(expected, tmp_path)
        assert len(frames) == _NUM_FRAMES

        crashed = client.make_video(avatar["avatar_id"], driver)
        client.until_in_the_middle(crashed)
        jobs_process(family, "video").kill()
        assert client.until_done(crashed)["attempts"] == 2

        beside = client.make_video(avatar["avatar_id"], driver)
        client.until_in_the_middle(beside)
        front_ends = [each for each in family.children() if cmdline(each)[-1:] == ["serving.service.front_end"]]
        front_ends[0].kill()
        started = time.monotonic()
        client.job(beside)
        assert time.monotonic() - started < 5, "the other one answers"
        assert client.until_done(beside)["attempts"] == 1
        assert len([each for each in family.children() if "serving.service.front_end" in cmdline(each)]) == 2

        lost = client.make_video(avatar["avatar_id"], driver)
        waiting = client.make_video(avatar["avatar_id"], driver)
        client.until_in_the_middle(lost)
        children = family.children(recursive=True)
        process.kill()
        _, alive = psutil.wait_procs(children, timeout=5.0)
        assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE], "they end with their parent"
    with serving(tmp_path, *arguments) as process:
        read_until(process, "Ctrl-C stops it")
        assert client.until_done(lost)["attempts"] == 2
        assert client.until_done(waiting)["attempts"] == 1

        interrupted = client.make_video(avatar["avatar_id"], driver)
        client.until_in_the_middle(interrupted)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.wait(20.0) == 130
    with serving(tmp_path, *arguments) as process:
        read_until(process, "Ctrl-C stops it")
        assert client.until_done(interrupted)["attempts"] == 1, "it was put back into the queue"
        for job_id in (crashed, beside, lost, waiting, interrupted):
            assert client.frames_of(job_id, tmp_path) == frames
        assert not list((tmp_path / "data" / "uploads").rglob("*.*"))
        assert not list((tmp_path / "data").rglob(".partial-*"))


@pytest.mark.long
def test_without_jobs_nothing_but_front_ends_is_there(model: Path, portrait: Path, tmp_path: Path) -> None:
    port = free_port()
    client = ServiceClient(f"http://127.0.0.1:{port}")
    arguments = ("--model", str(model), "--port", str(port), "--num-steps", "0", "--min-workers", "0")
    with serving(tmp_path, *arguments, "--num-stills", "0") as process:
        read_until(process, "Ctrl-C stops it")
        family = psutil.Process(process.pid)
        assert [cmdline(each)[-1] for each in family.children(recursive=True)] == ["serving.service.front_end"]
        client.until_done(client.make_avatar(portrait)["id"])
        kinds = {cmdline(each)[-1] for each in family.children(recursive=True)} & {"avatar", "video"}
        assert kinds == {"avatar"}, "it stays for some minutes"
