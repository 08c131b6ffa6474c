"""One clip to one row, with a detector that finds a face where the test says: no weights, no network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.clip_config import ClipConfig
from pipelines.clips import process_clip
from pipelines.faces import to_source
from pipelines.jpeg import decode_jpeg, encode_jpeg
from pipelines.landmarks import Face, make_face
from pipelines.process import ShardSpec, process_shard
from pipelines.quality import ClipRejected, QualityRule, RejectReason
from pipelines.schema import ClipKey
from pipelines.sources import Source
from pipelines.timing import Stopwatch

Fixture = Callable[..., Any]
KEY = ClipKey("ann", "film", "0")
CONFIG = ClipConfig(size=64, frames_per_clip=12, fps_limit=50.0, quality=QualityRule(min_sharpness=0.0))


class MarkedFaces:
    """Finds a face of 60 px in frames brighter than 40, `others` more beside it; follows the first only."""

    name = "marked"

    def __init__(self, points: np.ndarray, others: int = 0, size: float = 60.0) -> None:
        self._points, self._others = points, others
        self.detections = 0

    def detect(self, image: np.ndarray) -> list[Face]:
        self.detections += 1
        if image.mean() < 40:
            return []
        return [make_face(self._points + np.array([70 * i, 0]), 0.9) for i in range(1 + self._others)]

    def tracker(self) -> "MarkedFaces":
        return self

    def follow(self, image: np.ndarray, timestamp_us: int) -> list[Face]:
        return self.detect(image)[:1]

    def close(self) -> None:
        pass


@pytest.fixture
def film(make_video: Fixture, numbered_frame: Fixture) -> Fixture:
    """A film of 160 x 120 from a list of brightness numbers (below 3: no face)."""
    return lambda numbers: make_video("film.mp4", [numbered_frame(n, 160, 120) for n in numbers])


def run(path: Path, detector: Any, config: ClipConfig = CONFIG) -> Any:
    return process_clip(KEY, str(path), "film.mp4", detector, config, Stopwatch())


def test_a_row_holds_crops_with_landmarks_where_the_face_is(film: Fixture, face_points: Fixture) -> None:
    points = face_points(size=60, x=80, y=60)
    row = run(film([10] * 30), MarkedFaces(points))
    assert len(row.frame_jpeg) == 12
    assert decode_jpeg(row.frame_jpeg[0]).shape == (64, 64, 3)
    assert decode_jpeg(row.frame_jpeg[0]).mean() == pytest.approx(96, abs=3)
    assert to_source(row.landmarks[0], row.crop_affine) == pytest.approx(points, abs=1e-3)
    assert row.bbox[0] == pytest.approx([*points.min(axis=0), *points.max(axis=0)])
    assert row.landmark_score[0] == pytest.approx(0.9)
    assert abs(row.yaw[0]) < 1
    assert (row.width, row.height, row.end_us) == (160, 120, 1_200_000)
    assert row.frame_pts_us == tuple(i * 40_000 for i in row.frame_index)
    assert row.audio is None


def test_frames_without_the_face_are_left_out(film: Fixture, face_points: Fixture) -> None:
    row = run(film([10] * 10 + [1] * 10 + [10] * 10), MarkedFaces(face_points(size=60, x=80, y=60)))
    assert all(i < 10 or i >= 20 for i in row.frame_index)


@pytest.mark.parametrize(
    ("numbers", "others", "size", "reason"),
    [
        ([1] * 30, 0, 60.0, RejectReason.NO_FACE),
        ([10] * 5 + [1] * 25, 0, 60.0, RejectReason.TOO_FEW_FRAMES),
        ([10] * 8, 0, 60.0, RejectReason.TOO_FEW_FRAMES),
        ([10] * 30, 1, 60.0, RejectReason.SEVERAL_FACES),
        ([10] * 30, 0, 20.0, RejectReason.TOO_SMALL),
    ],
)
def test_what_gives_no_row_says_why(
    numbers: list[int], others: int, size: float, reason: RejectReason, film: Fixture, face_points: Fixture
) -> None:
    with pytest.raises(ClipRejected) as caught:
        run(film(numbers), MarkedFaces(face_points(size=size, x=50, y=60), others))
    assert caught.value.reason is reason


def test_a_blurred_clip_is_rejected(film: Fixture, face_points: Fixture) -> None:
    config = ClipConfig(size=64, frames_per_clip=12, fps_limit=50.0)
    with pytest.raises(ClipRejected) as caught:
        run(film([10] * 30), MarkedFaces(face_points(size=60, x=80, y=60)), config)
    assert caught.value.reason is RejectReason.BLURRED


def test_text_named_mp4_is_rejected_without_telling_where_it_lies(tmp_path: Path, face_points: Fixture) -> None:
    (tmp_path / "film.mp4").write_text("hello")
    with pytest.raises(ClipRejected) as caught:
        run(tmp_path / "film.mp4", MarkedFaces(face_points()))
    assert caught.value.reason is RejectReason.UNREADABLE
    assert str(caught.value).startswith("film.mp4 is not a readable video")


def test_a_clip_too_large_to_hold_gives_the_same_row(
    film: Fixture, face_points: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film([10 + i % 5 for i in range(30)])
    detector = MarkedFaces(face_points(size=60, x=80, y=60))
    held = run(path, detector)
    monkeypatch.setattr("pipelines.clips._KEEP_BYTES", 0)
    again = run(path, detector)
    assert again.frame_jpeg == held.frame_jpeg
    assert again.frame_index == held.frame_index


def test_sound_is_kept_as_packets(make_video: Fixture, numbered_frame: Fixture, face_points: Fixture) -> None:
    import io

    import av

    for codec, name, suffix in (("aac", "a.mp4", "m4a"), ("libopus", "a.mkv", "mka")):
        path = make_video(name, [numbered_frame(10, 160, 120)] * 30, audio_codec=codec, audio_seconds=1.0)
        row = run(path, MarkedFaces(face_points(size=60, x=80, y=60)))
        assert row.audio_format == suffix
        with av.open(io.BytesIO(row.audio)) as container:
            assert sum(frame.samples for frame in container.decode(audio=0)) / 48000 == pytest.approx(1.0, abs=0.05)
    silent = ClipConfig(size=64, frames_per_clip=12, fps_limit=50.0, audio=False, quality=CONFIG.quality)
    assert run(path, MarkedFaces(face_points(size=60, x=80, y=60)), silent).audio is None


def test_jpegs_keep_colour_at_full_resolution() -> None:
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = (200, 60, 60)
    stripes[:, 1::2] = (60, 60, 200)
    assert np.abs(decode_jpeg(encode_jpeg(stripes, 95)).astype(int) - stripes).mean() < 6
    with pytest.raises(ValueError, match="cannot be decoded"):
        decode_jpeg(b"\xff\xd8 nothing")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"size": 8}, "size"), ({"frames_per_clip": 5}, r"frames_per_clip \(5\)"), ({"jpeg_quality": 0}, "jpeg_quality")],
)
def test_a_config_out_of_range_shows_the_value(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipConfig(**wrong)


class Exploding(MarkedFaces):
    def detect(self, image: np.ndarray) -> list[Face]:
        raise RuntimeError("boom\nboom")


def test_every_clip_of_a_shard_ends_in_exactly_one_way(film: Fixture, face_points: Fixture, tmp_path: Path) -> None:
    good = film([10] * 30)
    (tmp_path / "text.mp4").write_text("hello")
    clips = tuple(
        Source(ClipKey(name, "v", "0"), str(path), f"{name}.mp4", 1)
        for name, path in (("good", good), ("text", tmp_path / "text.mp4"), ("gone", tmp_path / "gone.mp4"))
    )
    spec = ShardSpec(str(tmp_path / "out"), "train", 3, clips, CONFIG, "c", "p")
    assert spec.finished() is None
    report = process_shard(spec, MarkedFaces(face_points(size=60, x=80, y=60)))
    assert (report.num_done, report.num_rejected, report.num_failed) == (1, 1, 1)
    assert report.codes == {"storage": 1, "unreadable": 1}
    assert spec.finished() == report
    assert ShardSpec(spec.root, "train", 3, clips, CONFIG, "another config", "p").finished() is None
    exploded = process_shard(spec, Exploding(face_points()))
    assert exploded.codes == {"internal": 1, "storage": 1, "unreadable": 1}
