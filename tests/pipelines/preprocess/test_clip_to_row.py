"""One clip to one row, with a detector that finds a face where the test says: no weights, no network."""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipelines.dataset.rows import ClipRow
from pipelines.dataset.schema import ClipKey
from pipelines.faces.crop import to_source
from pipelines.media.decoder.process import Decoder
from pipelines.media.images import decode_jpeg, encode_jpeg
from pipelines.planning.plan import PlannedClip
from pipelines.preprocess import candidate_frames
from pipelines.preprocess.candidate_frames import prepare_clip
from pipelines.preprocess.clip_to_row import make_row
from pipelines.preprocess.config import ClipConfig
from pipelines.preprocess.quality import ClipRejected, QualityRule, RejectReason
from pipelines.preprocess.stopwatch import Stopwatch

Fixture = Callable[..., Any]
CLIP = PlannedClip(ClipKey("ann", "film", "0"), "film.mp4", 1, "train", 0)
CONFIG = ClipConfig(size=64, frames_per_clip=12, fps_limit=50.0, quality=QualityRule(min_sharpness=0.0))


@pytest.fixture
def make_clip(make_video: Fixture, numbered_frame: Fixture) -> Fixture:
    """A video of 160 x 120 from a list of brightness numbers (below 3: no face)."""
    return lambda numbers: make_video("film.mp4", [numbered_frame(n, 160, 120) for n in numbers])


@pytest.fixture
def run(decoder: Decoder, marked_faces: Fixture) -> Callable[..., ClipRow]:
    """`run(path, config=..., clip=..., box_text=..., **how the faces are marked)`"""

    def make(
        path: Path,
        config: ClipConfig = CONFIG,
        clip: PlannedClip = CLIP,
        box_text: str | None = None,
        detector: Any = None,
        **marks: Any,
    ) -> ClipRow:
        detector = detector or marked_faces(**marks)
        looked = prepare_clip(clip, path, box_text, decoder, config, Stopwatch())
        (found,) = detector.follow([looked.candidates])
        return make_row(looked, found, decoder, config, Stopwatch())

    return make


@pytest.mark.slow
def test_a_row_holds_crops_with_landmarks_where_the_face_is(
    make_clip: Fixture, run: Fixture, face_points: Fixture
) -> None:
    row = run(make_clip([10] * 30))
    assert len(row.frame_jpeg) == 12
    assert decode_jpeg(row.frame_jpeg[0]).shape == (64, 64, 3)
    assert decode_jpeg(row.frame_jpeg[0]).mean() == pytest.approx(96, abs=3)
    points = face_points(size=60, x=80, y=60)
    assert to_source(row.landmarks[0], row.crop_affine) == pytest.approx(points, abs=1e-3)
    assert (row.width, row.height, row.start_us, row.end_us) == (160, 120, 0, 1_200_000)


def test_frames_without_the_face_are_left_out(make_clip: Fixture, run: Fixture) -> None:
    row = run(make_clip([10] * 10 + [1] * 10 + [10] * 10))
    assert all(i < 10 or i >= 20 for i in row.frame_index)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("numbers", "others", "size", "reason"),
    [
        ([1] * 30, 0, 60.0, RejectReason.NO_FACE),
        ([10] * 5 + [1] * 25, 0, 60.0, RejectReason.TOO_FEW_FRAMES),
        ([10] * 8, 0, 60.0, RejectReason.TOO_FEW_FRAMES),
        ([10] * 30, 1, 60.0, RejectReason.SEVERAL_FACES),
        ([10] * 30, 0, 20.0, RejectReason.TOO_SMALL),
        ([4] * 6 + [12] * 6 + [20] * 6 + [28] * 6, 0, 60.0, RejectReason.CUT_INSIDE),
    ],
)
def test_what_gives_no_row_says_why(
    numbers: list[int], others: int, size: float, reason: RejectReason, make_clip: Fixture, run: Fixture
) -> None:
    with pytest.raises(ClipRejected) as caught:
        run(make_clip(numbers), size=size, x=50, others=others)
    assert caught.value.reason is reason


def test_a_rejected_clip_leaves_what_was_measured(make_clip: Fixture, run: Fixture) -> None:
    with pytest.raises(ClipRejected) as caught:
        run(make_clip([10] * 30), size=20.0)
    measures = caught.value.measures
    assert (measures.frames_seen, measures.frames_with_face, measures.sharpness) == (30, 30, None)
    assert measures.face_size == pytest.approx(20, abs=0.01)
    assert measures.thumbnail is not None
    assert decode_jpeg(measures.thumbnail).shape == (96, 128, 3)
    with pytest.raises(ClipRejected) as caught:
        run(make_clip([10] * 30), dataclasses.replace(CONFIG, quality=QualityRule(min_sharpness=3.0)))
    assert caught.value.reason is RejectReason.BLURRED
    assert caught.value.measures.sharpness is not None
    assert caught.value.measures.sharpness < 3.0


def test_after_a_cut_only_the_longer_scene_is_kept(make_clip: Fixture, run: Fixture) -> None:
    row = run(make_clip([6] * 12 + [28] * 24))
    assert min(row.frame_index) >= 12
    assert len(row.frame_index) == 12


def test_text_named_mp4_is_rejected_without_telling_where_it_lies(tmp_path: Path, run: Fixture) -> None:
    (tmp_path / "film.mp4").write_text("hello")
    with pytest.raises(ClipRejected) as caught:
        run(tmp_path / "film.mp4")
    assert caught.value.reason is RejectReason.UNREADABLE
    assert str(caught.value).startswith("film.mp4 is not a readable video")


def test_a_clip_too_large_to_hold_gives_the_same_row(
    make_clip: Fixture, run: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_clip([10 + i % 5 for i in range(30)])
    held = run(path)
    monkeypatch.setattr(candidate_frames, "_KEEP_BYTES", 0)
    again = run(path)
    assert again.frame_jpeg == held.frame_jpeg
    assert again.frame_index == held.frame_index


@pytest.mark.slow
def test_sound_is_kept_as_packets(make_video: Fixture, numbered_frame: Fixture, run: Fixture) -> None:
    for codec, name, suffix in (("aac", "a.mp4", "m4a"), ("libopus", "a.mkv", "mka")):
        path = make_video(name, [numbered_frame(10, 160, 120)] * 30, audio_codec=codec, audio_seconds=1.0)
        row = run(path)
        assert row.audio_format == suffix
        with av.open(io.BytesIO(row.audio)) as container:
            assert sum(frame.samples for frame in container.decode(audio=0)) / 48000 == pytest.approx(1.0, abs=0.05)
    assert run(path, dataclasses.replace(CONFIG, audio=False)).audio is None


BOXES = "FRAME X Y W H\n" + "".join(f"{frame} 0.2 0.1 0.5 0.8\n" for frame in range(10, 25))


def test_boxes_cut_an_excerpt_out_of_a_video(make_clip: Fixture, run: Fixture, marked_faces: Fixture) -> None:
    excerpt = dataclasses.replace(CLIP, boxes="txt/ann/film/00007.txt")
    assert excerpt.is_excerpt
    detector = marked_faces()
    row = run(make_clip([10] * 40), clip=excerpt, box_text=BOXES, detector=detector)
    assert (min(row.frame_index), max(row.frame_index)) >= (10, 20)
    assert max(row.frame_index) < 25
    assert (row.start_us, row.end_us) == (400_000, 1_000_000)
    (clip,) = detector.seen
    assert clip.hints[12] == pytest.approx((32, 12, 112, 108))


def test_a_clips_own_boxes_begin_with_the_clip(make_clip: Fixture, run: Fixture, marked_faces: Fixture) -> None:
    own = dataclasses.replace(CLIP, boxes="txt/ann/v/film.txt")
    assert not own.is_excerpt
    detector = marked_faces()
    row = run(make_clip([10] * 15), clip=own, box_text=BOXES, detector=detector)
    assert (row.start_us, row.end_us) == (0, 600_000)
    (clip,) = detector.seen
    assert sorted(clip.hints) == list(range(15))


def test_broken_boxes_are_a_reason_of_their_own(make_clip: Fixture, run: Fixture) -> None:
    with pytest.raises(ClipRejected, match=r"txt/ann/v/film\.txt: it holds no boxes") as caught:
        run(make_clip([10] * 15), clip=dataclasses.replace(CLIP, boxes="txt/ann/v/film.txt"), box_text="hello")
    assert caught.value.stage == "boxes"


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
