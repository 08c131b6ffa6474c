"""The service on a Ray cluster of two machines that share no folder: jobs in Postgres, files in an object store
(fake-gcs-server), and processes of every kind killed with -9 in the middle of a job.

The machines are nodes of Ray with tokens, each with a folder of its own for temporary files, and a head that does no
work, as on Kubernetes. Each has room for one worker, so that the fine-tuner and the renderer are on different ones.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import sqlalchemy
from bad_videos import ffmpeg
from PIL import Image
from web.front_end_process import free_port
from web.serve_process import ServiceClient, cmdline, jobs_process, kill_tree, read_until, serving

from pipelines import assets, storage

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]

_ROOT = Path(__file__).parents[3]
_NUM_FRAMES = 40
_CPUS, _CPUS_PER_WORKER = 2, "1.5"
_ROOMY = ("--object-store-memory=80000000", "--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats")


@dataclass
class Node:
    """A machine: `ray start --block` with its own folder for temporary files."""

    folder: Path
    environment: Mapping[str, str]
    arguments: tuple[str, ...]
    num_cpus: int
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        own = (f"--temp-dir={self.folder}/ray", "--dashboard-agent-listen-port=0")  # else they meet at the head's
        flags = ("--node-ip-address=127.0.0.1", f"--num-cpus={self.num_cpus}", "--block", *own, *_ROOMY)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", *self.arguments, *flags],
            env={**os.environ, **self.environment, "TMPDIR": str(self.folder)},
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def family(self) -> list[psutil.Process]:
        if self.process.poll() is not None:
            return []
        return psutil.Process(self.process.pid).children(recursive=True)

    def is_up(self) -> bool:
        """Whether it runs; one that has given up, on a busy machine, tries again."""
        if self.process.poll() is not None:
            self.start()
        return bool(self._named("raylet"))

    def kill_program(self, name: str) -> None:
        """kill -9 of a process of Ray's by its program, such as raylet."""
        (process,) = self._named(name)
        process.kill()

    def _named(self, name: str) -> list[psutil.Process]:
        return [each for each in self.family() if Path(" ".join(cmdline(each)[:1])).name == name]

    def holds(self, pid: int) -> bool:
        return pid in [each.pid for each in self.family()]

    def kill(self) -> None:
        kill_tree(self.process)


@dataclass
class Machines:
    """A head and two machines, and what the service on them needs."""

    database: str
    bucket: str
    model: str
    gcs_port: int = field(default_factory=free_port)
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "RAY_worker_niceness": "0",
            "PYTHONPATH": str(_ROOT),
        }
        head = ("--head", f"--port={self.gcs_port}", "--include-dashboard=false")
        # Short paths: those of sockets have at most 107 bytes.
        folders = [Path(tempfile.mkdtemp(prefix="node-")) for _ in range(3)]
        # Machines notice soon that their head is gone: a minute by default.
        on_machines = {**self.environment, "RAY_gcs_rpc_server_reconnect_timeout_s": "20"}
        join = (f"--address=127.0.0.1:{self.gcs_port}",)
        self.head = Node(folders[0], on_machines, head, 0)
        self.workers = [Node(folder, on_machines, join, _CPUS) for folder in folders[1:]]
        self.client = ServiceClient(f"http://127.0.0.1:{self.port}")

    @property
    def flags(self) -> tuple[str, ...]:
        return (
            *("--ray-address", f"127.0.0.1:{self.gcs_port}", "--port", str(self.port), "--num-steps", "0"),
            *("--data-dir", f"{self.bucket}/data", "--database", self.database, "--model", self.model),
            *("--num-front-ends", "2", "--num-stills", "0", "--cpus-per-worker", _CPUS_PER_WORKER),
        )

    def start(self) -> None:
        """Start the head, then the machines."""
        self.head.start()
        wait_for(lambda: listens(self.gcs_port), "the head")
        for worker in self.workers:
            worker.start()
        wait_for(lambda: all(node.is_up() for node in self.nodes), "the machines")
        wait_for(lambda: self.joined() == len(self.nodes), "the machines to join")

    def joined(self) -> int:
        """Return how many machines the head knows; those that join late would find the service refused."""
        command = [sys.executable, "-m", "ray.scripts.scripts", "status", f"--address=127.0.0.1:{self.gcs_port}"]
        environment = {**os.environ, **self.environment}
        said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120).stdout
        return len(re.findall(r"^ *1 node_", said.partition("Pending:")[0], flags=re.MULTILINE))

    @property
    def nodes(self) -> tuple[Node, ...]:
        return (self.head, *self.workers)

    def node_of(self, pid: int) -> Node:
        return next(node for node in self.nodes if node.holds(pid))

    def worker_of(self, job_id: str) -> psutil.Process:
        """Return the process that holds a job's lease, by the row of the job."""
        engine = sqlalchemy.create_engine(self.database)
        with engine.connect() as connection:
            query = sqlalchemy.text("SELECT worker FROM jobs WHERE id = :id")
            worker = str(connection.scalar(query, {"id": job_id}))
        engine.dispose()
        return psutil.Process(int(worker.rpartition("-")[2]))

    def front_ends(self) -> list[psutil.Process]:
        found = []
        for each in (process for node in self.nodes for process in node.family()):
            listening = [one for one in connections(each) if one.status == psutil.CONN_LISTEN]
            if any(one.laddr.port == self.port for one in listening):
                found.append(each)
        return found


def connections(process: psutil.Process) -> list[psutil._common.pconn]:
    try:
        return process.net_connections("tcp")
    except psutil.Error:
        return []


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(reached: object, what: str, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not reached():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.fixture
def machines(postgres: str, gcs: str, model: Path, tmp_path: Path) -> Iterator[Machines]:
    name = f"two_nodes_{secrets.token_hex(4)}"
    admin = sqlalchemy.create_engine(postgres.format(name="postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    admin.dispose()
    for file in model.iterdir():
        storage.write_bytes(f"{gcs}/model/{file.name}", file.read_bytes())
    made = Machines(postgres.format(name=name), gcs, f"{gcs}/model")
    yield made
    for node in made.nodes:
        if hasattr(node, "process"):
            node.kill()
        shutil.rmtree(node.folder)


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    with Image.open(assets.fetch("mona_lisa")) as picture:
        picture.resize((371, 577)).save(tmp_path / "portrait.png")
    return tmp_path / "portrait.png"


def test_fine_tuned_here_rendered_there_and_each_job_ends_once_whatever_is_killed(
    machines: Machines, portrait: Path, tmp_path: Path
) -> None:
    client, driver = machines.client, tmp_path / "driver.mp4"
    ffmpeg("-i", assets.fetch("clip_single_face"), "-frames:v", _NUM_FRAMES, "-c", "copy", driver)
    machines.start()
    with serving(tmp_path, *machines.flags, environment=machines.environment) as serve:
        read_until(serve, "Ctrl-C stops it")

        # A portrait is fine-tuned on one machine and rendered on the other.
        avatar = client.make_avatar(portrait)
        client.until(avatar["id"], lambda job: job["state"] in ("running", "done"))
        fine_tuner = machines.node_of(machines.worker_of(avatar["id"]).pid)
        client.until_done(avatar["id"])
        first = client.make_video(avatar["avatar_id"], driver)
        client.until_in_the_middle(first)
        renderer = machines.node_of(machines.worker_of(first).pid)
        assert fine_tuner is not renderer
        client.until_done(first)
        frames = client.frames_of(first, tmp_path)
        assert len(frames) == _NUM_FRAMES

        # Both front ends answer. One is killed in the middle of a job, and the other goes on.
        front_ends = machines.front_ends()
        assert len(front_ends) == 2
        beside = client.make_video(avatar["avatar_id"], driver)
        client.until_in_the_middle(beside)
        front_ends[0].kill()
        for _ in range(20):
            assert client.job(beside)["state"] in ("running", "done")
        assert client.until_done(beside)["attempts"] == 1

        # The process that runs the job, then the worker with its process, then the worker's machine.
        crashed = client.make_video(avatar["avatar_id"], driver)
        client.until_in_the_middle(crashed)
        jobs_process(psutil.Process(renderer.process.pid), "video").kill()
        assert client.until_done(crashed)["attempts"] == 2

        replaced = client.make_video(avatar["avatar_id"], driver)
        client.until_in_the_middle(replaced)
        machines.worker_of(replaced).kill()
        assert client.until_done(replaced)["attempts"] == 2

        moved = client.make_video(avatar["avatar_id"], driver)
        client.until_in_the_middle(moved)
        machine = machines.node_of(machines.worker_of(moved).pid)
        machine.kill_program("raylet")
        wait_for(lambda: machine.process.poll() is not None, "the end of the machine")
        machine.start()
        assert client.until_done(moved)["attempts"] == 2

        # Ray's control service: the command ends by itself and says why.
        interrupted = client.make_video(avatar["avatar_id"], driver)
        client.until_in_the_middle(interrupted)
        machines.head.kill_program("gcs_server")
        said = read_until(serve, "sfumato serve:")
        assert serve.wait(60.0) == 1
        assert "the head of the Ray cluster" in said
    for node in machines.nodes:
        wait_for(lambda node=node: node.process.poll() is not None, "the end of the machines")
        node.kill()
    machines.start()
    with serving(tmp_path, *machines.flags, environment=machines.environment) as serve:
        read_until(serve, "Ctrl-C stops it")
        # Machines work on for a while without their head: the job may have ended before they did.
        assert client.until_done(interrupted)["attempts"] in (1, 2)

        # The whole cluster at once.
        lost = client.make_video(avatar["avatar_id"], driver)
        client.until_in_the_middle(lost)
        for node in machines.nodes:
            node.kill()
        kill_tree(serve)
    machines.start()
    with serving(tmp_path, *machines.flags, environment=machines.environment) as serve:
        read_until(serve, "Ctrl-C stops it")
        assert client.until_done(lost)["attempts"] == 2
        for job_id in (beside, crashed, replaced, moved, interrupted, lost):
            assert client.frames_of(job_id, tmp_path) == frames
        kept = storage.list(f"{machines.bucket}/data")
        assert not [url for url in kept if "/uploads/" in url]
        serve.terminate()
        assert serve.wait(30.0) == 130
