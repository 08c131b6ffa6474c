import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from pipelines.storage import lease
from pipelines.storage.lease import Lease, Terms, holder

FILE = "lease.json"
TERMS = Terms(FILE, "is being trained", "choose another -o")


def hold(folder: str, on_lost: Callable[[], None]) -> AbstractContextManager[None]:
    return lease.hold(folder, TERMS, on_lost)


def write(run: Path, **changes: object) -> None:
    fields = {"owner": "other", "host": "elsewhere", "pid": 5, "renewed": time.time()}
    run.mkdir(exist_ok=True)
    (run / FILE).write_text(json.dumps(fields | changes))


def a_dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_who_holds_a_run_is_named_and_nothing_is_left_behind(tmp_path: Path) -> None:
    with hold(str(tmp_path), lambda: None):
        found = json.loads((tmp_path / FILE).read_text())
        assert (found["host"], found["pid"]) == (socket.gethostname(), os.getpid())
        assert holder(str(tmp_path), TERMS) == Lease(**found)
    assert not (tmp_path / FILE).exists()
    assert holder(str(tmp_path), TERMS) is None


@pytest.mark.parametrize("place", ["folder", "memory"])
def test_70_a_second_process_is_refused_with_the_name_of_the_first(place: str, tmp_path: Path) -> None:
    run = str(tmp_path) if place == "folder" else f"memory://{tmp_path}"
    said = (
        f"is being trained by process {os.getpid()} on .* since 2.* UTC, last heard of 0 s ago: "
        "wait for it or stop it, or choose another -o"
    )
    with hold(run, lambda: None), pytest.raises(ValueError, match=said):
        hold(run, lambda: None).__enter__()
    with hold(run, lambda: None):
        pass


@pytest.mark.slow
def test_a_process_of_another_machine_that_renews_its_lock_is_believed(tmp_path: Path) -> None:
    write(tmp_path, renewed=time.time() - 10)
    threading.Timer(0.6, lambda: write(tmp_path)).start()
    with pytest.raises(ValueError, match="by process 5 on elsewhere, last heard of"):
        hold(str(tmp_path), lambda: None).__enter__()


@pytest.mark.slow
@pytest.mark.parametrize("seconds_ago", [29, 31, 1000])
def test_a_restart_on_another_machine_goes_on_by_itself(seconds_ago: float, tmp_path: Path) -> None:
    write(tmp_path, renewed=time.time() - seconds_ago)
    with hold(str(tmp_path), lambda: None):
        assert json.loads((tmp_path / FILE).read_text())["pid"] == os.getpid()


@pytest.mark.slow
def test_a_killed_process_of_this_machine_holds_nothing(tmp_path: Path) -> None:
    write(tmp_path, host=socket.gethostname(), pid=a_dead_process())
    with hold(str(tmp_path), lambda: None):
        assert json.loads((tmp_path / FILE).read_text())["pid"] == os.getpid()


@pytest.mark.slow
def test_a_restarted_container_with_the_number_of_the_one_before_takes_over(tmp_path: Path) -> None:
    write(tmp_path, host=socket.gethostname(), pid=os.getpid())
    with hold(str(tmp_path), lambda: None):
        assert json.loads((tmp_path / FILE).read_text())["owner"] != "other"


@pytest.mark.slow
def test_a_lease_that_was_cut_short_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"owner": "o')
    with hold(str(tmp_path), lambda: None):
        assert json.loads((tmp_path / FILE).read_text())["pid"] == os.getpid()


@pytest.mark.slow
def test_of_many_who_try_at_once_one_gets_it(tmp_path: Path) -> None:
    start, end, outcomes = threading.Barrier(8), threading.Event(), list[str]()

    def attempt() -> None:
        start.wait()
        try:
            with hold(str(tmp_path), lambda: None):
                outcomes.append("mine")
                end.wait(10)
        except ValueError:
            outcomes.append("refused")
            if outcomes.count("refused") == 7:
                end.set()

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["mine"] + ["refused"] * 7


def test_it_is_renewed_and_its_loss_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.05)
    lost = threading.Event()
    with hold(str(tmp_path), lost.set):
        first = Lease(**json.loads((tmp_path / FILE).read_text()))
        time.sleep(0.3)
        assert Lease(**json.loads((tmp_path / FILE).read_text())).renewed > first.renewed
        assert not lost.is_set()
        for _ in range(100):  # a renewal may be under way that read the file before
            write(tmp_path)
            if lost.wait(0.05):
                break
        assert lost.is_set()
    assert json.loads((tmp_path / FILE).read_text())["owner"] == "other"  # not ours to remove


@pytest.mark.slow
def test_70_on_a_store_too_a_second_process_is_refused(gcs: str) -> None:
    with hold(gcs, lambda: None), pytest.raises(ValueError, match=f"is being trained by process {os.getpid()}"):
        hold(gcs, lambda: None).__enter__()
    with hold(gcs, lambda: None):
        pass
