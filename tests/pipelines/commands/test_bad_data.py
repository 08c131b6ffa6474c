"""Corpora and stores that go wrong, through the real command, by their numbers in the list of bad inputs."""

import contextlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from poison import write_poison

from pipelines import assets
from pipelines.dataset.reader import ShardDataset

pytestmark = pytest.mark.slow

_FLAGS = (
    "--size=64",
    "--frames-per-clip=9",
    "--max-sample-fps=4",
    "--no-audio",
    "--val-fraction=0",
    "--test-fraction=0",
)


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sfumato", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        start_new_session=True,
    )


def sfumato(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    with start(*arguments, **environment) as process:
        stdout, stderr = process.communicate(timeout=300)
    assert "Traceback" not in stderr
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def outcome(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def rejects(root: Path) -> dict[str, dict[str, Any]]:
    return {row["source"]: row for path in root.glob("rejects/*") for row in pq.read_table(path).to_pylist()}


def frames(root: Path) -> dict[str, bytes]:
    """The JPEGs of each clip that gave a row."""
    tables = (pq.read_table(path) for path in root.glob("clips/split=train/*.parquet"))
    return {row["source"]: b"".join(row["frame_jpeg"]) for table in tables for row in table.to_pylist()}


def film_of(name: str) -> bytes:
    """The same pictures for every name, and a free atom at the end that makes the file one of its own."""
    return assets.fetch("clip_carphone").read_bytes() + b"\0\0\0\x10free" + name.encode()[:8].ljust(8)


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str], Path]:
    """`put("in/a.mp4")` writes a video of its own."""

    def write(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(film_of(path.name))
        return path

    return write


def test_71_an_identity_in_two_splits_is_refused(tmp_path: Path, put: Callable[[str], Path]) -> None:
    put("in/a.mp4")
    put("in/b.mp4")
    rows = [
        {"path": f"{name}.mp4", "identity": "ann", "split": split} for name, split in (("a", "train"), ("b", "test"))
    ]
    (tmp_path / "in" / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = sfumato("preprocess", str(tmp_path / "in" / "m.jsonl"), str(tmp_path / "out"))
    assert done.returncode == 1
    assert done.stderr == (
        "sfumato preprocess: error: identity 'ann' is in two splits, train and test: a person seen in training cannot "
        "be held out\n"
    )
    assert not (tmp_path / "out").exists()


def test_72_73_74_76_duplicates_short_clips_single_videos_and_a_changed_config(
    tmp_path: Path, put: Callable[[str], Path]
) -> None:
    put("in/alone.mp4")
    shutil.copy(tmp_path / "in" / "alone.mp4", tmp_path / "in" / "twin.mp4")
    import av

    with (
        av.open(str(tmp_path / "in" / "alone.mp4")) as alone,
        av.open(str(tmp_path / "in" / "short.mp4"), "w") as short,
    ):
        stream = short.add_stream_from_template(alone.streams.video[0])
        for packet in list(alone.demux(video=0))[:8]:
            packet.stream = stream
            short.mux(packet)
    said = outcome(sfumato("preprocess", str(tmp_path / "in"), str(tmp_path / "out"), *_FLAGS, "--json"))
    found = rejects(tmp_path / "out")
    assert {name: row["code"] for name, row in found.items()} == {
        "twin.mp4": "duplicate",
        "short.mp4": "too_few_frames",
    }
    assert found["short.mp4"]["message"] == "the face is in 8 frames, 9 are needed"
    assert found["twin.mp4"]["message"] == "same content as alone/alone/0"
    assert set(frames(tmp_path / "out")) == {"alone.mp4"}  # one identity with one video: fine
    assert "1 done + 2 rejected + 0 failed = 3 inputs" in said["notes"]
    again = sfumato("preprocess", str(tmp_path / "in"), str(tmp_path / "out"), *_FLAGS, "--min-face=40")
    assert again.returncode == 1
    assert "was begun with another config: clip.quality.min_face 32.0 -> 40.0. Take the same flags" in again.stderr


def test_75_a_shard_that_is_corrupt_or_missing_is_named(tmp_path: Path, put: Callable[[str], Path]) -> None:
    put("in/a.mp4")
    outcome(sfumato("preprocess", str(tmp_path / "in"), str(tmp_path / "out"), *_FLAGS, "--json"))
    part = tmp_path / "out" / "clips" / "split=train" / "part-00000.parquet"
    whole = part.read_bytes()
    dataset = ShardDataset(str(tmp_path / "out"))
    (video,) = dataset.videos("train")
    damaged = bytearray(whole)
    damaged[video.frames[0].jpeg_offset + 100] ^= 1
    part.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"part-00000\.parquet: frame \d+ of clip 0 is damaged \(checksum\)"):
        dataset.read(video.frames)
    checked = sfumato("validate", str(tmp_path / "out"))
    assert checked.returncode == 1
    assert "clips/split=train/part-00000.parquet: damaged pictures: frame" in checked.stdout
    part.write_bytes(whole[:-20])
    with pytest.raises(ValueError, match=r"part-00000\.parquet is broken"):
        ShardDataset(str(tmp_path / "out")).videos("train")
    part.unlink()
    with pytest.raises(FileNotFoundError, match=r"part-00000\.parquet"):
        ShardDataset(str(tmp_path / "out")).videos("train")
    assert "clips/split=train/part-00000.parquet" in sfumato("validate", str(tmp_path / "out")).stdout


def test_77_videos_that_crash_or_hang_the_decoder_cost_themselves(tmp_path: Path, put: Callable[[str], Path]) -> None:
    for name in ("a", "crash", "hang", "z"):
        put(f"in/{name}.mp4")
    poison = write_poison(tmp_path / "poison")
    arguments = ("preprocess", str(tmp_path / "in"), str(tmp_path / "out"), *_FLAGS, "--decoder-timeout=4", "--json")
    said = outcome(sfumato(*arguments, PYTHONPATH=poison))
    assert "2 done + 0 rejected + 2 failed = 4 inputs" in said["notes"]
    found = rejects(tmp_path / "out")
    assert {name: (row["code"], row["message"], row["retryable"]) for name, row in found.items()} == {
        "crash.mp4": ("decoder_crashed", "the decoder crashed (signal SIGSEGV)", True),
        "hang.mp4": ("timed_out", "the decoder took longer than 4 s", True),
    }
    healed = outcome(sfumato("retry", str(tmp_path / "out"), "--json"))
    assert "4 done + 0 rejected + 0 failed = 4 inputs" in healed["notes"]
    assert set(frames(tmp_path / "out")) == {"a.mp4", "crash.mp4", "hang.mp4", "z.mp4"}


@pytest.fixture
def shaky_store() -> Iterator[tuple[str, Counter[str]]]:
    """An HTTP store: `shaky.mp4` is refused with 503 twice, `slow.mp4` comes late, `down.mp4` never."""
    asked: Counter[str] = Counter()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            asked[name] += 1
            refused = name == "down.mp4" or (name == "shaky.mp4" and asked[name] <= 2)
            if name == "slow.mp4":
                time.sleep(2.0)
            body = b"" if refused else film_of(name)
            self.send_response(503 if refused else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


@pytest.mark.long
def test_78_a_store_that_is_busy_is_waited_for_and_one_that_is_down_is_a_reason(
    tmp_path: Path, shaky_store: tuple[str, Counter[str]]
) -> None:
    url, asked = shaky_store
    names = ("shaky.mp4", "slow.mp4", "down.mp4")
    rows = [{"path": f"{url}/{name}", "num_bytes": len(film_of(name)), "identity": name[:4]} for name in names]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said = outcome(sfumato("preprocess", str(tmp_path / "m.jsonl"), str(tmp_path / "out"), *_FLAGS, "--json"))
    found = {source.rpartition("/")[2]: row for source, row in rejects(tmp_path / "out").items()}
    assert asked["shaky.mp4"] > 2
    assert (found["down.mp4"]["code"], found["down.mp4"]["retryable"]) == ("storage", True)
    assert "503" in found["down.mp4"]["message"]
    assert "2 done + 0 rejected + 1 failed = 3 inputs" in said["notes"]


def workers_of(pid: int) -> list[int]:
    """Beam's worker processes below a process."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (path / "cmdline").read_bytes()
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if b"sdk_worker_main" in command and parent == pid:
                found.append(int(path.name))
    return found


@pytest.mark.long
def test_79_a_killed_beam_worker_leaves_no_double_row_and_no_half_shard(
    tmp_path: Path, put: Callable[[str], Path]
) -> None:
    for number in range(8):
        put(f"in/{number}.mp4")
    engine = ("--runner=DirectRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2")
    process = start("preprocess", str(tmp_path / "in"), str(tmp_path / "out"), *_FLAGS, *engine)
    with process:
        while not (reports := list(tmp_path.glob("out/reports/*.json"))) and process.poll() is None:
            time.sleep(0.05)
        assert reports
        for pid in workers_of(process.pid)[:1]:
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=8)
        with contextlib.suppress(ProcessLookupError):  # Beam may wait for its lost worker for ever
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    outcome(sfumato("preprocess", str(tmp_path / "in"), str(tmp_path / "out"), *_FLAGS, "--json"))
    outcome(sfumato("preprocess", str(tmp_path / "in"), str(tmp_path / "calm"), *_FLAGS, "--json"))
    files = {path.relative_to(tmp_path / "calm") for path in (tmp_path / "calm").rglob("*.parquet")}
    assert {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.parquet")} == files
    assert all((tmp_path / "out" / name).read_bytes() == (tmp_path / "calm" / name).read_bytes() for name in files)
    assert len(frames(tmp_path / "out")) == 8
