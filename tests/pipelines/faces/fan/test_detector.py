from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import assets
from pipelines.faces.detectors import require_weights
from pipelines.faces.face import Box, Candidates, Face
from pipelines.faces.fan.detector import FaceAlignmentDetector
from pipelines.faces.fan.network import Fan
from pipelines.media import images, video
from pipelines.storage import hashing

SIZE = (40, 50)  # of the white rectangle that stands for a face, whose corners are its landmarks


class WhiteRectangles:
    """Stands in for a box finder: a white rectangle and a quarter of its height above it, as S3FD draws faces."""

    reference_scale = 195.0
    pictures_at_once = 4

    def __init__(self) -> None:
        self.looked_at = 0

    def find(self, images: Sequence[np.ndarray]) -> list[list[Box]]:
        self.looked_at += len(images)
        return [[self.box(x0, y0, x1, y1) for x0, y0, x1, y1 in rectangles(image[:, :, 0])] for image in images]

    @staticmethod
    def box(x0: float, y0: float, x1: float, y1: float) -> Box:
        return float(x0), float(y0 - (y1 - y0) / 4), float(x1), float(y1)


class Corners(torch.nn.Module):
    """Stands in for FAN: point 0 at the low corner of what is white in the crop, all others at the high one."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, crops: torch.Tensor) -> list[torch.Tensor]:
        self.batches.append(len(crops))
        maps = torch.zeros(len(crops), 68, 64, 64)
        for number, crop in enumerate(crops):
            rows, columns = np.nonzero(crop[0, ::4, ::4].numpy() > 0.5)
            if len(rows):
                maps[number, 0, rows.min(), columns.min()] = 0.9
                maps[number, 1:, rows.max(), columns.max()] = 0.9
        return [maps]


def rectangles(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """White rectangles that share no column, the largest first."""
    columns = np.flatnonzero(np.diff(np.concatenate([[0], mask.any(axis=0).astype(int), [0]])))
    found = []
    for x0, x1 in zip(columns[::2], columns[1::2], strict=True):
        rows = np.flatnonzero(mask[:, x0])
        found.append((int(x0), int(rows[0]), int(x1) - 1, int(rows[-1])))
    return sorted(found, key=lambda box: (box[0] - box[2]) * (box[3] - box[1]))


def picture(*corners: tuple[int, int], scale: float = 1.0) -> np.ndarray:
    """Black, 320x240, with a white rectangle at each corner, each `scale` as large as the one before."""
    image = np.zeros((240, 320, 3), np.uint8)
    for number, (x, y) in enumerate(corners):
        wide, high = (round(side * scale**number) for side in SIZE)
        image[y : y + high, x : x + wide] = 255
    return image


class Film:
    """Frames that can be iterated again; counts how often they are."""

    def __init__(self, images: Sequence[np.ndarray], step_us: int = 80_000) -> None:
        self._frames = [video.Frame(2 * n, n * step_us, image) for n, image in enumerate(images)]
        self.passes = 0

    def __iter__(self) -> Iterator[video.Frame]:
        self.passes += 1
        return iter(self._frames)


def moving(number: int, step: int = 2) -> list[np.ndarray]:
    return [picture((60 + step * n, 90)) for n in range(number)]


@pytest.fixture
def parts() -> tuple[FaceAlignmentDetector, WhiteRectangles, Corners]:
    """A detector on the two stand-ins, and them."""
    detector, finder, network = FaceAlignmentDetector(), WhiteRectangles(), Corners()
    detector._networks = finder, Fan(network, crops_at_once=64)
    return detector, finder, network


Parts = tuple[FaceAlignmentDetector, WhiteRectangles, Corners]


def corner(face: Face) -> list[float]:
    return [face.box[0], face.box[1]]


@pytest.mark.slow
def test_boxes_are_detected_in_every_fourth_frame_and_the_last(parts: Parts) -> None:
    detector, finder, _ = parts
    video_path = Film(moving(10))
    (found,) = detector.follow([Candidates(video_path, {})])
    assert finder.looked_at == 4  # 0, 4, 8, 9
    assert video_path.passes == 2
    assert [len(faces) for faces in found] == [1] * 10
    for number, (face,) in enumerate(found):
        assert corner(face) == pytest.approx([60 + 2 * number, 90], abs=2)
        assert face.score == pytest.approx(0.9)


def test_boxes_are_detected_in_all_frames_far_apart_in_time(parts: Parts) -> None:
    detector, finder, _ = parts
    detector.follow([Candidates(Film(moving(10), step_us=500_000), {})])
    assert finder.looked_at == 10


def test_a_face_that_jumps_between_two_detections_is_detected_again(parts: Parts) -> None:
    detector, finder, _ = parts
    images = moving(9)
    images[2] = picture((220, 150))
    images[6] = picture()
    (found,) = detector.follow([Candidates(Film(images), {})])
    assert finder.looked_at == 3 + 2
    assert corner(found[2][0]) == pytest.approx([220, 150], abs=2)
    assert found[6] == []
    assert [len(faces) for faces in found] == [1] * 6 + [0] + [1] * 2


def test_all_faces_are_reported_largest_first(parts: Parts) -> None:
    detector, _, _ = parts
    (found,) = detector.follow([Candidates(Film([picture((40 + n, 90), (200, 100), scale=0.7) for n in range(6)]), {})])
    for number, faces in enumerate(found):
        assert [corner(face) for face in faces] == [
            pytest.approx([40 + number, 90], abs=2),
            pytest.approx([200, 100], abs=2),
        ]
    large, _ = detector.detect(picture((200, 100), (40, 90), scale=1.4))
    assert corner(large) == pytest.approx([40, 90], abs=4)


def test_crops_of_all_clips_fill_the_batches(parts: Parts) -> None:
    detector, _, network = parts
    clips = [Candidates(Film(moving(30)), {}) for _ in range(3)]
    found = detector.follow(clips)
    assert network.batches == [64, 26]
    assert [len(frames) for frames in found] == [30, 30, 30]


def test_a_gpu_wants_many_clips_and_a_cpu_one() -> None:
    assert FaceAlignmentDetector("cuda:0").clips_at_once == 16
    assert FaceAlignmentDetector("cpu").clips_at_once == 1
    assert (Fan(Corners()).crops_at_once, Fan(Corners(), crops_at_once=5).crops_at_once) == (8, 5)


def test_a_device_that_is_not_here_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="cpu or cuda, got the device 'tpu'"):
        FaceAlignmentDetector("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no CUDA device here"):
        FaceAlignmentDetector("cuda").detect(picture())


def test_a_clip_gives_the_same_beside_others(parts: Parts) -> None:
    detector, _, _ = parts
    clips = [Candidates(Film(moving(7, step)), {}) for step in (1, 2, 3)]
    together = detector.follow(clips)
    alone = [detector.follow([clip])[0] for clip in clips]
    for many, one in zip(together, alone, strict=True):
        assert [[face.box for face in faces] for faces in many] == [[face.box for face in faces] for faces in one]
    assert detector.follow([]) == []
    assert detector.follow([Candidates([], {})]) == [[]]


def test_hints_replace_the_box_detection(parts: Parts) -> None:
    detector, finder, _ = parts
    video_path = Film(moving(10))
    hints = {index: WhiteRectangles.box(60 + index, 90, 99 + index, 139) for index in (0, 8, 18)}
    (found,) = detector.follow([Candidates(video_path, hints)])
    assert finder.looked_at == 0
    assert video_path.passes == 1
    for number, (face,) in enumerate(found):
        assert corner(face) == pytest.approx([60 + 2 * number, 90], abs=2)


def test_of_two_faces_a_hint_shows_one(parts: Parts) -> None:
    detector, _, _ = parts
    video_path = Film([picture((40, 90), (220, 100), scale=0.7)] * 5)
    (found,) = detector.follow([Candidates(video_path, {0: WhiteRectangles.box(220, 100, 247, 134)})])
    assert [[corner(face) for face in faces] for faces in found] == [[pytest.approx([220, 100], abs=2)]] * 5


@pytest.mark.parametrize("wrong", [(200.0, 10.0, 240.0, 60.0), (500.0, 90.0, 540.0, 140.0)])
def test_boxes_of_another_cut_of_the_video_are_passed_over(parts: Parts, wrong: Box) -> None:
    detector, finder, _ = parts
    right = {index: WhiteRectangles.box(60 + index, 90, 99 + index, 139) for index in range(0, 18)}
    clips = [Candidates(Film(moving(9)), {0: wrong}), Candidates(Film(moving(9)), right)]
    found = detector.follow(clips)
    assert finder.looked_at == 3
    for frames in found:
        for number, (face,) in enumerate(frames):
            assert corner(face) == pytest.approx([60 + 2 * number, 90], abs=2)


def test_one_wrong_hint_costs_one_box_detection(parts: Parts) -> None:
    detector, finder, _ = parts
    hints = {index: WhiteRectangles.box(60 + index, 90, 99 + index, 139) for index in range(0, 18)}
    hints[6] = (200.0, 10.0, 240.0, 60.0)
    (found,) = detector.follow([Candidates(Film(moving(9)), hints)])
    assert finder.looked_at == 1
    assert corner(found[3][0]) == pytest.approx([66, 90], abs=2)


@pytest.mark.slow
def test_the_real_networks_run_on_weights_from_a_folder(tmp_path: Path) -> None:
    """Random weights of the right shape: what is tested is the loading, the calls and the shapes, not the points."""
    from face_alignment.models import FAN

    torch.manual_seed(0)
    torch.save(FAN(4).state_dict(), tmp_path / "fan")
    digits = hashing.sha256_of(tmp_path / "fan")
    name = f"2DFAN4-{digits[:10]}.pth.tar"
    (tmp_path / "fan").rename(tmp_path / name)
    files = require_weights("face-alignment", weights=str(tmp_path))
    assert files == {name: digits, assets.find("yunet").file: assets.find("yunet").sha256}
    image = images.read_image(assets.fetch("mona_lisa"))
    detector = FaceAlignmentDetector(weights=str(tmp_path))
    (face,) = detector.detect(image)
    assert face.landmarks.shape == (68, 2)
    assert 0 <= face.score <= 1
    (frames,) = detector.follow([Candidates([video.Frame(0, 0, image)], {})])
    assert frames[0][0].landmarks == pytest.approx(face.landmarks, abs=0.1)
    assert detector.detect(np.zeros((200, 200, 3), np.uint8)) == []
