"""A shard from its specification: every clip ends in exactly one way, whatever it provokes."""

import dataclasses
import io
import json
import os
import signal
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.dataset import schema
from pipelines.dataset.schema import ClipKey
from pipelines.media.decoder.process import Decoder
from pipelines.planning.plan import PlannedClip
from pipelines.planning.plan_file import plan_row, write_plan
from pipelines.preprocess.config import ClipConfig
from pipelines.preprocess.quality import QualityRule
from pipelines.preprocess.shard_worker import ShardSpec, process_shard

Fixture = Callable[..., Any]
CONFIG = ClipConfig(size=64, frames_per_clip=12, fps_limit=50.0, quality=QualityRule(min_sharpness=0.0))


@pytest.fixture
def videos(make_video: Fixture, numbered_frame: Fixture) -> Fixture:
    """`videos("a", "b")` makes a.mp4, b.mp4 of 30 frames, each of its own brightness; returns planned clips."""

    def make(*names: str, **changes: Any) -> list[PlannedClip]:
        clips = []
        for number, name in enumerate(names):
            path = make_video(f"corpus/{name}.mp4", [numbered_frame(8 + number, 160, 120)] * 30)
            key = ClipKey(name, "v", "0")
            clips.append(PlannedClip(key, path.name, path.stat().st_size, "train", 0, **changes))
        return clips

    return make


def spec_of(tmp_path: Path, clips: list[PlannedClip]) -> ShardSpec:
    """The spec of shard 0, with its plan written."""
    write_plan(str(tmp_path / "out"), {"test": 1}, str(tmp_path / "corpus"), [clips])
    digest = schema.spec_digest("c", map(plan_row, clips))
    return ShardSpec(str(tmp_path / "out"), str(tmp_path / "corpus"), "train", 0, CONFIG, "c", digest)


def rejects(tmp_path: Path) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(tmp_path / "out" / "rejects" / "part-00000.parquet").to_pylist()
    return {row["source"]: row for row in rows}


@pytest.mark.slow
def test_every_clip_of_a_shard_ends_in_exactly_one_way(
    videos: Fixture, tmp_path: Path, decoder: Decoder, marked_faces: Fixture
) -> None:
    clips = videos("good", "gone", "grown", "copy")
    (tmp_path / "corpus" / "gone.mp4").unlink()
    with (tmp_path / "corpus" / "grown.mp4").open("ab") as file:
        file.write(b"more")
    clips[3] = dataclasses.replace(clips[3], duplicate_of="good/v/0")
    (tmp_path / "corpus" / "text.mp4").write_text("hello")
    clips.append(PlannedClip(ClipKey("text", "v", "0"), "text.mp4", 5, "train", 0))
    spec = spec_of(tmp_path, clips)
    assert spec.finished() is None
    report = process_shard(spec, marked_faces(), decoder)
    assert (report.num_done, report.num_rejected, report.num_failed) == (1, 2, 2)
    assert report.codes == {"duplicate": 1, "storage": 2, "unreadable": 1}
    found = rejects(tmp_path)
    assert {source: (row["code"], row["retryable"]) for source, row in found.items()} == {
        "gone.mp4": ("storage", True),
        "grown.mp4": ("storage", True),
        "copy.mp4": ("duplicate", False),
        "text.mp4": ("unreadable", False),
    }
    size = clips[2].num_bytes
    assert found["grown.mp4"]["message"] == f"it has {size + 4} bytes, and had {size} when the run was planned"
    assert not any(str(tmp_path) in row["message"] for row in found.values())
    assert spec.finished() == report


def test_another_config_or_other_clips_are_another_shard(
    videos: Fixture, tmp_path: Path, decoder: Decoder, marked_faces: Fixture
) -> None:
    spec = spec_of(tmp_path, videos("good"))
    process_shard(spec, marked_faces(), decoder)
    assert spec.finished() is not None
    assert dataclasses.replace(spec, config_sha256="another").finished() is None
    assert dataclasses.replace(spec, spec_sha256="another").finished() is None
    with pytest.raises(ValueError, match="the plan of shard 0 has changed"):
        dataclasses.replace(spec, spec_sha256="another").clips()


@pytest.mark.slow
def test_a_clip_that_kills_its_decoder_is_one_failed_row(
    videos: Fixture, tmp_path: Path, decoder: Decoder, marked_faces: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = videos("before", "poison", "after")
    describe, receive = Decoder.describe, Decoder._receive
    doomed: list[int] = []

    def stop_for_poison(self: Decoder, path: Path, *more: Any) -> Any:
        info = describe(self, path, *more)
        if path.stem == "poison":
            assert self._child is not None
            os.kill(self._child.pid, signal.SIGSTOP)  # so that it dies with the next request in its hands, not before
            doomed.append(self._child.pid)
        return info

    def crash(self: Decoder, *more: Any) -> Any:
        while doomed:
            os.kill(doomed[0], signal.SIGSEGV)
            os.kill(doomed.pop(), signal.SIGCONT)
        return receive(self, *more)

    monkeypatch.setattr(Decoder, "describe", stop_for_poison)
    monkeypatch.setattr(Decoder, "_receive", crash)
    report = process_shard(spec_of(tmp_path, clips), marked_faces(), decoder)
    assert (report.num_done, report.codes) == (2, {"decoder_crashed": 1})
    row = rejects(tmp_path)["poison.mp4"]
    assert (row["message"], row["retryable"]) == ("the decoder crashed (signal SIGSEGV)", True)


@pytest.mark.slow
@pytest.mark.parametrize("clips_at_once", [1, 2, 5])
def test_detecting_several_clips_at_once_changes_no_byte(
    clips_at_once: int, videos: Fixture, tmp_path: Path, decoder: Decoder, marked_faces: Fixture
) -> None:
    clips = videos("a", "b", "c", "d")
    (tmp_path / "corpus" / "b.mp4").unlink()
    report = process_shard(spec_of(tmp_path, clips), marked_faces(clips_at_once=clips_at_once), decoder)
    assert report.codes == {"storage": 1}
    rows = pq.read_table(tmp_path / "out" / "clips" / "split=train" / "part-00000.parquet", columns=["identity"])
    assert rows["identity"].to_pylist() == ["a", "c", "d"]
    detector = marked_faces(clips_at_once=1)
    again = process_shard(spec_of(tmp_path, clips), detector, decoder)
    assert again.sha256 == report.sha256


@pytest.mark.slow
def test_a_detector_that_fails_on_a_group_is_asked_for_each_clip(
    videos: Fixture, tmp_path: Path, decoder: Decoder, marked_faces: Fixture
) -> None:
    detector = marked_faces(clips_at_once=3)
    follow = detector.follow

    def fail_on_dark(clips: Any) -> Any:
        if any(frame.image.mean() < 84 for clip in clips for frame in clip.frames):
            raise RuntimeError("boom\nboom")
        return follow(clips)

    detector.follow = fail_on_dark
    report = process_shard(spec_of(tmp_path, videos("dark", "a", "b")), detector, decoder)
    assert (report.num_done, report.codes) == (2, {"internal": 1})
    assert rejects(tmp_path)["dark.mp4"]["message"] == "RuntimeError: boom boom"


def test_a_member_of_a_tar_is_read_as_a_range(
    videos: Fixture, tmp_path: Path, decoder: Decoder, marked_faces: Fixture
) -> None:
    (clip,) = videos("inside")
    video_path = tmp_path / "corpus" / "inside.mp4"
    with tarfile.open(tmp_path / "corpus" / "all.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("first"), io.BytesIO())
        tar.add(video_path, "inside.mp4")
    video_path.unlink()
    with tarfile.open(tmp_path / "corpus" / "all.tar") as tar:
        offset = tar.getmember("inside.mp4").offset_data
    member = dataclasses.replace(clip, source="all.tar/inside.mp4", location="all.tar", offset=offset)
    report = process_shard(spec_of(tmp_path, [member]), marked_faces(), decoder)
    assert (report.num_done, report.codes) == (1, {})


def test_the_report_is_the_last_to_appear(
    videos: Fixture, tmp_path: Path, decoder: Decoder, marked_faces: Fixture
) -> None:
    process_shard(spec_of(tmp_path, videos("good")), marked_faces(), decoder)
    written = sorted((tmp_path / "out").rglob("part-*"), key=lambda path: path.stat().st_mtime_ns)
    assert written[-1].name == "part-00000.json"
    assert json.loads(written[-1].read_text())["min_clip_frames"] == 12
