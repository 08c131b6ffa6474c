"""A data set made by jobs on Dataflow, whose driver may go away at any moment."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import CommandResult
from pipelines.commands import forget, retry
from pipelines.commands.preprocess import Options, run
from pipelines.dataset.manifest import read_manifest
from pipelines.dataset.shard_writer import write_shard
from pipelines.planning.plan_file import PlanFile
from pipelines.preprocess import run_record
from pipelines.preprocess.planned_shards import PlanReference
from pipelines.preprocess.run_record import DataflowJob, RunRecord, read_record, write_record
from pipelines.preprocess.shard_worker import WorkerOptions

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Beam's and Google's own, on import


@pytest.fixture
def options(tmp_path: Path) -> Options:
    (tmp_path / "in").mkdir()
    for name in ("a", "bb", "ccc"):
        (tmp_path / "in" / f"{name}.mp4").write_bytes(name.encode())
    flags = (
        "--project=my-project",
        "--region=r",
        "--no_auth",
        "--sdk_location=container",
        "--sdk_container_image=image:1",
    )
    places = ("--temp_location=gs://bucket/temp", "--staging_location=gs://bucket/staging")
    return Options(
        str(tmp_path / "in"),
        str(tmp_path / "out"),
        licence="CC0",
        runner="DataflowRunner",
        trial_clips=0,
        beam_args=(*flags, *places),
    )


@pytest.fixture
def work(options: Options, make_row: Callable[..., Any]) -> Callable[[], None]:
    """What a job's workers do: make every unfinished shard."""

    def make() -> None:
        plan = PlanReference(options.out, options.src, WorkerOptions())
        for shard in plan.unfinished():
            spec = shard.spec
            rows = [make_row(clip.key.identity, clip.key.video, clip.key.clip) for clip in spec.clips()]
            digests = {"config_sha256": spec.config_sha256, "spec_sha256": spec.spec_sha256}
            write_shard(spec.root, spec.split, spec.shard, rows, [], seconds={}, **digests)

    return make


def finishing(dataflow: Any, work: Callable[[], None]) -> Callable[[], None]:
    """A poll that finds the job's work done."""

    def poll() -> None:
        work()
        dataflow.end("DONE")

    return poll


def left_by_its_driver(options: Options, dataflow: Any) -> None:
    """Begin a run whose driver is interrupted while it waits for its job."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    dataflow.polled = interrupt
    with pytest.raises(KeyboardInterrupt):
        run(options)


def test_a_job_makes_the_shards_and_its_driver_the_manifest(
    options: Options, dataflow: Any, work: Callable[[], None]
) -> None:
    dataflow.polled = finishing(dataflow, work)
    done = run(options)
    assert done.counts["done"] == done.counts["inputs"] == 3
    (job,) = dataflow.jobs
    assert re.fullmatch(r"sfumato-preprocess-[0-9a-f]{16}", job.name)
    assert len(dataflow.staged["pipeline.pb"]) < 30_000
    assert read_manifest(options.out).licence == "CC0"
    assert {path.name for path in Path(options.out).iterdir() if path.name.startswith("_")} == set()


def test_7_a_restart_waits_for_the_job_that_is_at_work_and_begins_no_second_one(
    options: Options, dataflow: Any, work: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    left_by_its_driver(options, dataflow)
    record = json.loads((Path(options.out) / run_record.RECORD).read_text())
    assert record["job"] == {"project": "my-project", "region": "r", "name": dataflow.jobs[0].name, "id": "job-0"}
    polls = iter([lambda: None, finishing(dataflow, work)])
    dataflow.polled = lambda: next(polls)()
    assert run(options).counts["done"] == 3
    assert "Dataflow job job-0 is at work on this data set" in capsys.readouterr().err
    assert len(dataflow.jobs) == 1


def test_7_a_job_that_has_ended_meanwhile_is_not_run_again(
    options: Options, dataflow: Any, work: Callable[[], None]
) -> None:
    left_by_its_driver(options, dataflow)
    dataflow.polled = finishing(dataflow, work)
    assert run(options).counts["done"] == 3
    assert len(dataflow.jobs) == 1


def test_7_a_job_whose_driver_died_before_it_noted_it_is_found_by_its_name(
    options: Options, dataflow: Any, work: Callable[[], None]
) -> None:
    left_by_its_driver(options, dataflow)
    (Path(options.out) / run_record.RECORD).unlink()
    dataflow.polled = finishing(dataflow, work)
    assert run(options).counts["done"] == 3
    assert len(dataflow.jobs) == 1


def test_7_a_job_is_left_to_itself_and_its_data_set_finished_later(
    options: Options, dataflow: Any, work: Callable[[], None]
) -> None:
    left = run(dataclasses.replace(options, detach=True))
    assert (left.counts, left.made[0].what) == ({"shards": 3, "clips": 3}, "Dataflow job")
    assert "jobs/r/job-0?project=my-project" in left.made[0].where
    again = run(dataclasses.replace(options, detach=True))
    assert again.counts == left.counts
    assert len(dataflow.jobs) == 1
    finish = Options("anything/" + Path(options.src).name, options.out, finish=True)
    with pytest.raises(OSError, match="3 of 3 shards are not made"):
        run(finish)
    work()
    dataflow.end("DONE")
    assert run(finish).counts["done"] == 3
    assert (read_manifest(options.out).source, read_manifest(options.out).licence) == ("in", "CC0")
    assert read_record(options.out) is None


def test_7_a_job_that_a_template_has_started_is_found_by_its_name(
    options: Options, dataflow: Any, work: Callable[[], None]
) -> None:
    flags = ("--job_name=given", "--template_location=gs://bucket/graphs/graph")
    left = run(dataclasses.replace(options, beam_args=(*options.beam_args, *flags), detach=True))
    assert (left.counts, dataflow.jobs) == ({"shards": 3, "clips": 3}, [])
    assert "graph" in dataflow.staged
    started = dataflow.api.Job(id="job-0", name="given", current_state=dataflow.api.JobState.JOB_STATE_RUNNING)
    dataflow.jobs.append(started)  # by the service
    dataflow.polled = finishing(dataflow, work)
    assert run(options).counts["done"] == 3
    assert len(dataflow.jobs) == 1


def test_a_job_that_fails_is_told_with_its_reason_and_the_next_start_begins_another(
    options: Options, dataflow: Any, work: Callable[[], None]
) -> None:
    dataflow.errors = ["Traceback\n  File x\nRuntimeError: no quota"]
    dataflow.polled = lambda: dataflow.end("FAILED")
    with pytest.raises(OSError, match=r"^Dataflow job job-0 failed: RuntimeError: no quota; see https://\S+job-0\S+$"):
        run(options)
    dataflow.polled = finishing(dataflow, work)
    assert run(options).counts["done"] == 3
    assert [job.id for job in dataflow.jobs] == ["job-0", "job-1"]


def test_clips_that_come_while_a_job_is_at_work_take_a_second_one(
    options: Options, dataflow: Any, work: Callable[[], None]
) -> None:
    left_by_its_driver(options, dataflow)
    (Path(options.src) / "dddd.mp4").write_bytes(b"dddd")
    assert PlanFile(options.out).num_shards == 3

    def poll() -> None:
        work()
        if len(dataflow.jobs) == 1:  # it had listed the shards before there was a fourth
            (Path(options.out) / "reports" / "part-00003.json").unlink()
        dataflow.end("DONE")

    dataflow.polled = poll
    assert run(options).counts["done"] == 4
    assert len(dataflow.jobs) == 2


@pytest.mark.parametrize(
    "start",
    [
        lambda options: run(dataclasses.replace(options, runner="local", beam_args=())),
        lambda options: retry.run(retry.Options(options.out)),
        lambda options: forget.run(forget.Options(options.out, "a", yes=True)),
    ],
    ids=["preprocess", "retry", "forget"],
)
def test_nothing_else_writes_a_data_set_that_a_job_writes(
    start: Callable[[Options], CommandResult], options: Options, dataflow: Any, work: Callable[[], None]
) -> None:
    dataflow.polled = finishing(dataflow, work)
    run(options)
    job = DataflowJob("my-project", "r", "name", "job-7")
    write_record(options.out, RunRecord("in", "CC0", "DataflowRunner", 1.0, 0, job))
    said = (
        r"being written by Dataflow job job-7 \(r\).*; gcloud dataflow jobs cancel job-7 --region=r --project=my-proj"
    )
    with pytest.raises(ValueError, match=said):
        start(options)


def test_what_dataflow_refuses_is_one_line(options: Options, dataflow: Any) -> None:
    from google.api_core.exceptions import Forbidden

    dataflow.refusal = Forbidden("billing\nis off")
    with pytest.raises(OSError, match=r"^Dataflow in my-project, r refuses the job: 403 billing is off$"):
        run(options)
    wrong = tuple(flag.replace("my-project", "My project") for flag in options.beam_args)
    with pytest.raises(ValueError, match=r"^Pipeline has validations errors: Invalid Project ID \(My project\)"):
        run(dataclasses.replace(options, beam_args=wrong))
    without = tuple(flag for flag in options.beam_args if not flag.startswith("--region"))
    with pytest.raises(ValueError, match="Dataflow wants --project and --region"):
        run(dataclasses.replace(options, beam_args=without))


def test_without_its_client_dataflow_is_refused_before_anything_is_planned(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("google.cloud.dataflow", raising=False)
    monkeypatch.setitem(sys.modules, "google.cloud.dataflow", None)
    with pytest.raises(
        ValueError, match=r"--runner DataflowRunner needs the extra dataflow: pip install '\.\[dataflow\]'"
    ):
        run(options)
    assert not Path(options.out).exists()
