import dataclasses
import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from followed_faces import Follower, MakeFace, moving

from training.animation.animator import Animator
from training.animation.render import COMMENT, Cancelled, RenderOptions, RenderReport, animate
from training.animation.retarget import MotionOptions
from training.avatars.avatar import Avatar
from training.avatars.finetune import FineTuneConfig, fine_tune
from training.avatars.portraits import Portrait
from training.checkpoints.bundle import BaseModel

NTSC = Fraction(30000, 1001)
RAW = RenderOptions(MotionOptions(smoothing=0.0, neutral_frame=0))


@pytest.fixture
def make_clip(tmp_path: Path) -> Callable[..., Path]:
    """`make_clip(frames, sound=True)`: grey frames of 96 x 64 at 30000/1001 per second, with an AAC tone."""

    def make(num_frames: int, *, sound: bool = True, name: str = "driver.mp4") -> Path:
        path = tmp_path / name
        with av.open(str(path), "w") as out:
            video = out.add_stream("libx264", rate=NTSC)
            video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
            audio = out.add_stream("aac", rate=48000, layout="mono") if sound else None
            for number in range(num_frames):
                image = np.full((64, 96, 3), 40 + 5 * number % 200, np.uint8)
                out.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            out.mux(video.encode())
            if audio is not None:
                _write_tone(out, audio, float(num_frames / NTSC))
        return path

    return make


def _write_tone(out: "av.container.OutputContainer", stream: "av.AudioStream", seconds: float) -> None:
    samples = np.sin(np.arange(int(seconds * 48000)) * 0.06).astype(np.float32) * 0.3
    for start in range(0, len(samples), 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="fltp", layout="mono")
        frame.rate, frame.pts = 48000, start
        out.mux(stream.encode(frame))
    out.mux(stream.encode())


@pytest.fixture
def make_avatar(base_model: Callable[..., BaseModel], portrait: Callable[..., Portrait]) -> Callable[..., Avatar]:
    def make(size: float = 60.0, *, warp_prior: bool = True) -> Avatar:
        return fine_tune(base_model(warp_prior=warp_prior), [portrait(size)], FineTuneConfig(0))

    return make


def render(avatar: Avatar, driver: Path, out: Path, options: RenderOptions, **more: Any) -> RenderReport:
    return animate(Animator(avatar, max_size=options.max_size), driver, out, options, **more)


def read(path: Path) -> tuple[list[np.ndarray], "av.container.InputContainer"]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)], container


@pytest.mark.slow
@pytest.mark.parametrize("warp_prior", [True, False])
def test_the_result_has_the_drivers_rate_frames_and_sound(
    warp_prior: bool, make_avatar: Callable[..., Avatar], make_clip: Callable[..., Path], face: MakeFace, tmp_path: Path
) -> None:
    driver, out, beside = make_clip(21), tmp_path / "out.mp4", tmp_path / "beside.mp4"
    told: list[tuple[int, int]] = []
    detector = Follower(moving(face, 21))
    report = render(
        make_avatar(warp_prior=warp_prior),
        driver,
        out,
        RAW,
        detector=detector,
        side_by_side=beside,
        on_frame=lambda *done: told.append(done),
    )
    for path, size in ((out, (120, 150)), (beside, (1200, 400))):
        with av.open(str(path)) as container:
            video = container.streams.video[0]
            assert video.average_rate == NTSC
            assert video.codec_context.name == "h264"
            assert video.codec_context.pix_fmt == "yuv420p"
            assert (video.width, video.height) == size
            assert sum(1 for _ in container.decode(video)) == 21
            assert container.metadata["comment"] == COMMENT
        with av.open(str(path)) as container:
            sound = container.streams.audio[0]
            samples = sum(frame.samples for frame in container.decode(sound))
            assert sound.codec_context.name == "aac"
            assert samples / sound.rate == pytest.approx(21 / NTSC, abs=0.06)
    assert (report.frames, report.fps, report.width, report.height) == (21, NTSC, 120, 150)
    assert report.has_audio
    assert report.frames_without_face == 0
    assert report.network_ms_per_frame > 0
    assert report.portraits_used == {"60-{}.png": 1.0}
    assert told[-1] == (21, 21)
    assert all(a <= b for (a, _), (b, _) in itertools.pairwise(told))
    assert detector.frames == []


@pytest.mark.slow
def test_a_driver_without_sound_gives_none(
    make_avatar: Callable[..., Avatar], make_clip: Callable[..., Path], face: MakeFace, tmp_path: Path
) -> None:
    report = render(
        make_avatar(), make_clip(3, sound=False), tmp_path / "o.mp4", RAW, detector=Follower(moving(face, 3))
    )
    assert not report.has_audio
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert not container.streams.audio


@pytest.mark.slow
def test_the_face_moves_and_what_is_far_from_it_does_not(
    make_avatar: Callable[..., Avatar], make_clip: Callable[..., Path], face: MakeFace, tmp_path: Path
) -> None:
    avatar = make_avatar(24.0)
    render(avatar, make_clip(5, sound=False), tmp_path / "o.mp4", RAW, detector=Follower(moving(face, 5)))
    frames, _ = read(tmp_path / "o.mp4")
    changes = np.abs(np.stack(frames).astype(int) - frames[0]).max(axis=(0, 3))
    left, top = np.rint(avatar.canvas.landmarks.min(axis=0)).astype(int)
    right, bottom = np.rint(avatar.canvas.landmarks.max(axis=0)).astype(int)
    assert changes[top:bottom, left:right].max() > 50
    still = np.concatenate([changes[:24], changes[126:]])
    assert still.max() < 25  # H.264 is not exact


@pytest.mark.slow
def test_at_the_neutral_frame_the_portrait_is_nearly_itself(
    make_avatar: Callable[..., Avatar], make_clip: Callable[..., Path], face: MakeFace, tmp_path: Path
) -> None:
    avatar = make_avatar()
    render(avatar, make_clip(2, sound=False), tmp_path / "o.mp4", RAW, detector=Follower(moving(face, 2)))
    first = read(tmp_path / "o.mp4")[0][0]
    assert np.abs(first.astype(int) - avatar.canvas.image[:150, :120]).mean() < 12


@pytest.mark.slow
def test_eyes_turn_as_the_drivers_do(
    make_avatar: Callable[..., Avatar], make_clip: Callable[..., Path], face: MakeFace, tmp_path: Path
) -> None:
    """A still head, whose eyes look aside, are lost, and look ahead; portraits without irises do not look aside."""
    avatar = make_avatar()
    canvas = dataclasses.replace(avatar.canvas, gaze=np.array([[0.5, 0.0]] * 2, np.float32))
    looking, still = [0.5, 0.6, None, 0.5], [[face(30, 48, 34)]] * 4
    pictures = []
    for one in (avatar, dataclasses.replace(avatar, portraits=(canvas,))):
        detector = Follower(still, looking)
        render(one, make_clip(4, sound=False), tmp_path / "o.mp4", RAW, detector=detector)
        pictures.append(np.stack(read(tmp_path / "o.mp4")[0]).astype(int))
    without, turned = pictures
    eyes = np.zeros(without.shape[1:3], bool)
    for corner in (36, 42):
        first, last = (np.rint(avatar.canvas.landmarks[point]).astype(int) for point in (corner, corner + 3))
        eyes[first[1] - 2 : first[1] + 3, first[0] : last[0] + 1] = True
    # H.264 is not exact.
    assert np.abs(turned[1] - turned[0]).max(axis=2)[eyes].max() > 20
    assert np.abs(without[1] - without[0]).max() < 10
    assert np.abs(turned[[0, 3]] - without[[0, 3]])[:, eyes].mean() < 6


@pytest.mark.slow
def test_the_crop_alone_is_a_square_around_the_face(
    make_avatar: Callable[..., Avatar], make_clip: Callable[..., Path], face: MakeFace, tmp_path: Path
) -> None:
    options = dataclasses.replace(RAW, frame="crop")
    report = render(make_avatar(), make_clip(2), tmp_path / "o.mp4", options, detector=Follower(moving(face, 2)))
    assert report.width == report.height
    assert report.width % 2 == 0
    assert 80 < report.width < 130  # twice the face of 52 x 57 pixels or so


@pytest.mark.slow
def test_a_large_portrait_is_shrunk(
    make_avatar: Callable[..., Avatar], make_clip: Callable[..., Path], face: MakeFace, tmp_path: Path
) -> None:
    options = dataclasses.replace(RAW, max_size=100)
    report = render(make_avatar(), make_clip(2), tmp_path / "o.mp4", options, detector=Follower(moving(face, 2)))
    assert (report.width, report.height) == (80, 100)
    with pytest.raises(ValueError, match=r"max_size must lie in \[64, 4096\] pixels, got 8"):
        RenderOptions(max_size=8)


@pytest.mark.slow
def test_frames_without_a_face_are_bridged_and_counted(
    make_avatar: Callable[..., Avatar], make_clip: Callable[..., Path], face: MakeFace, tmp_path: Path
) -> None:
    frames = moving(face, 6)
    frames[0] = frames[3] = []
    report = render(make_avatar(), make_clip(6), tmp_path / "o.mp4", RAW, detector=Follower(frames))
    assert (report.frames, report.frames_without_face) == (6, 2)


@pytest.mark.slow
def test_of_two_faces_the_one_followed_so_far_is_kept(
    make_avatar: Callable[..., Avatar], make_clip: Callable[..., Path], face: MakeFace, tmp_path: Path
) -> None:
    alone = moving(face, 4)
    crowd = [[face(50, 80, 30), *faces] if number else faces for number, faces in enumerate(alone)]
    pictures = []
    for name, frames in (("a.mp4", alone), ("b.mp4", crowd)):
        render(make_avatar(), make_clip(4, sound=False), tmp_path / name, RAW, detector=Follower(frames))
        pictures.append(np.stack(read(tmp_path / name)[0]))
    assert np.array_equal(*pictures)


def test_a_driver_without_a_face_is_refused_in_one_line_by_name(
    make_avatar: Callable[..., Avatar], make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"driver\.mp4: no face found in any frame$") as caught:
        render(make_avatar(), make_clip(3), tmp_path / "o.mp4", RAW, detector=Follower([[], [], []]))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "o.mp4").exists()


def test_a_driver_that_is_no_video_is_refused_by_name(make_avatar: Callable[..., Avatar], tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.mp4"):
        render(make_avatar(), tmp_path / "text.mp4", tmp_path / "o.mp4", RAW, detector=Follower([]))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.mp4"):
        render(make_avatar(), tmp_path / "nowhere.mp4", tmp_path / "o.mp4", RAW, detector=Follower([]))


def test_landmarks_of_another_detector_are_refused(
    make_avatar: Callable[..., Avatar], make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    detector = Follower([])
    detector.name = "face-alignment"
    with pytest.raises(ValueError, match="trained on mediapipe landmarks, the driver's are face-alignment"):
        render(make_avatar(), make_clip(2), tmp_path / "o.mp4", RAW, detector=detector)


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 2, 12])
def test_cancelled_leaves_nothing_behind(
    after: int, make_avatar: Callable[..., Avatar], make_clip: Callable[..., Path], face: MakeFace, tmp_path: Path
) -> None:
    driver, asked = make_clip(10), iter(range(100))
    detector = Follower(moving(face, 10))
    folder = tmp_path / "results"
    folder.mkdir()
    with pytest.raises(Cancelled):
        render(
            make_avatar(),
            driver,
            folder / "o.mp4",
            RAW,
            detector=detector,
            side_by_side=folder / "beside.mp4",
            cancelled=lambda: next(asked) >= after - (after > 10),
        )
    assert list(folder.iterdir()) == []
