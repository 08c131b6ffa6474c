from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipelines import assets
from pipelines.faces.boxes import overlap
from pipelines.faces.face_detectors import LibraryDetector, YuNet, closer_side, create_face_detector, shrink
from pipelines.media import images
from pipelines.storage import hashing


class HalfPicture:
    """Stands in for a detector of the library: one face that fills the left half, and one outside; counts batches."""

    reference_scale = 195

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []

    def detect_from_batch(self, pixels: torch.Tensor) -> list[np.ndarray]:
        self.batches.append(tuple(pixels.shape))
        height, width = pixels.shape[2:]
        return [np.array([[width, 0, width + 9, 9, 0.9], [0, 0, width / 2, height, 0.8]]) for _ in pixels]


def test_pictures_are_shrunk_to_the_working_side_and_never_enlarged() -> None:
    assert shrink(np.zeros((360, 640, 3), np.uint8)).shape == (270, 480, 3)
    assert shrink(np.zeros((1920, 1080, 3), np.uint8)).shape == (480, 270, 3)
    small = np.zeros((144, 176, 3), np.uint8)
    assert shrink(small) is small


def test_the_librarys_detectors_get_batches_of_one_size_and_boxes_come_back_in_the_pictures_pixels() -> None:
    half = HalfPicture()
    images = [np.zeros((360, 640, 3), np.uint8)] * 20 + [np.zeros((100, 50, 3), np.uint8)]
    found = LibraryDetector(half, max_faces=5).find(images)
    assert half.batches == [(16, 3, 270, 480), (4, 3, 270, 480), (1, 3, 100, 50)]
    assert found == [[(0, 0, 320, 360)]] * 20 + [[(0, 0, 25, 100)]]


def test_the_largest_faces_are_kept() -> None:
    class Many(HalfPicture):
        def detect_from_batch(self, pixels: torch.Tensor) -> list[np.ndarray]:
            return [np.array([[0, 0, size, size, 0.9] for size in (5, 9, 7)])]

    (found,) = LibraryDetector(Many(), max_faces=2).find([np.zeros((50, 50, 3), np.uint8)])
    assert found == [(0, 0, 9, 9), (0, 0, 7, 7)]


def test_a_picture_without_a_face_is_looked_at_more_closely() -> None:
    """32 px of 1920 are 16 of 960; a picture of 960 px shows them at the first look."""

    class OnlyClose(HalfPicture):
        def detect_from_batch(self, pixels: torch.Tensor) -> list[np.ndarray]:
            found = super().detect_from_batch(pixels)
            return found if pixels.shape[3] > 480 else [np.zeros((0, 5))] * len(pixels)

    detector = OnlyClose()
    images = [np.zeros((1080, 1920, 3), np.uint8)] * 2 + [np.zeros((540, 960, 3), np.uint8)]
    assert LibraryDetector(detector, max_faces=5, min_face=32.0).find(images) == [[(0, 0, 960, 1080)]] * 2 + [[]]
    assert [batch[-1] for batch in detector.batches] == [480, 480, 960, 960]
    assert LibraryDetector(detector, max_faces=5).find(images) == [[]] * 3


@pytest.mark.slow
def test_yunet_finds_a_small_face_at_its_second_look() -> None:
    """Mona Lisa's face, 32 px high in full HD: 8 px at the first look, 16 at the second."""
    head = images.read_image(assets.fetch("mona_lisa"))[80:480, 180:520]
    frame = np.full((1080, 1920, 3), 128, np.uint8)
    frame[500:566, 1200:1256] = cv2.resize(head, (56, 66), interpolation=cv2.INTER_AREA)
    assert YuNet(assets.fetch("yunet"), max_faces=5).find([frame]) == [[]]
    ((box,),) = YuNet(assets.fetch("yunet"), max_faces=5, min_face=32.0).find([frame])
    assert overlap(box, (1212.0, 512.0, 1244.0, 551.0)) > 0.5


def test_a_closer_look_gives_the_smallest_face_16_pixels() -> None:
    for longer, min_face, side in ((1920, 32.0, 960), (1000, 100.0, 160), (640, 8.0, 640), (8000, 32.0, 1920)):
        assert closer_side(np.zeros((10, longer, 3), np.uint8), min_face) == side


@pytest.mark.slow
def test_yunet_finds_each_face_at_its_size(capfd: pytest.CaptureFixture[str]) -> None:
    finder = YuNet(assets.fetch("yunet"), max_faces=5)
    face = cv2.resize(images.read_image(assets.fetch("mona_lisa")), (400, 620), interpolation=cv2.INTER_AREA)
    both = np.zeros((700, 1000, 3), np.uint8)
    both[:620, :400] = face
    both[:310, 600:800] = cv2.resize(face, (200, 310), interpolation=cv2.INTER_AREA)
    large, small = finder.find([both])[0]
    assert overlap(small, tuple((np.array(large) / 2 + [600, 0, 600, 0]).tolist())) > 0.8
    ((_, points), _) = finder.find_with_points(both)
    # Read off the picture by eye: her pupils, the tip of her nose, the corners of her mouth; 743 wide, here 400.
    expected = np.array([[305, 253], [392, 252], [343, 315], [307, 363], [380, 363]]) * 400 / 743
    assert points == pytest.approx(expected, abs=16)
    assert finder.find([np.zeros((200, 300, 3), np.uint8), both]) == [[], [large, small]]
    assert capfd.readouterr().err == ""


def save_zeros(network: torch.nn.Module, path: Path, biases: dict[str, list[float]]) -> None:
    """Weights of the right shape, all zero but for these biases: the network answers the same everywhere."""
    state = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    for name, values in biases.items():
        state[name][:] = torch.tensor(values).repeat(len(state[name]) // len(values))
    torch.save(state, path)


@pytest.mark.slow
def test_s3fd_runs_on_its_weights(tmp_path: Path) -> None:
    """Sure of the background, except on the grid of 32 pixels, whose boxes are 128 wide."""
    from face_alignment.detection.sfd.net_s3fd import s3fd

    network = s3fd()
    sure = {name: [10.0, 0.0] for name in network.state_dict() if name.endswith("_conf.bias")}
    sure["conv3_3_norm_mbox_conf.bias"] = [10.0, 10.0, 10.0, 0.0]
    save_zeros(network, tmp_path / "s3fd", sure | {"fc7_mbox_conf.bias": [0.0, 10.0]})
    digits = hashing.sha256_of(tmp_path / "s3fd")[:10]
    (tmp_path / "s3fd").rename(tmp_path / f"s3fd-{digits}.pth")
    finder = create_face_detector("s3fd", device="cpu", max_faces=5, weights=str(tmp_path))
    assert finder.reference_scale == 195
    image = np.zeros((160, 160, 3), np.uint8)
    first, second = finder.find([image, image])
    assert first == second
    assert 1 <= len(first) <= 5
    for x0, y0, x1, y1 in first:
        assert (x1 - x0, y1 - y0) == pytest.approx((128, 128))
        assert (x0 + x1) / 2 % 32 == pytest.approx(16)


@pytest.mark.slow
def test_blazeface_runs_on_its_weights(tmp_path: Path) -> None:
    """Every anchor of the finer grid is sure of a face half as wide and high as the square in the picture's middle."""
    from face_alignment.detection.blazeface.net_blazeface import BlazeFace

    biases = {
        "classifier_8.bias": [4.0],
        "classifier_16.bias": [-9.0],
        "regressor_8.bias": [0.0, 0.0, 128.0, 128.0, *[0.0] * 12],
    }
    save_zeros(BlazeFace(back_model=True), tmp_path / "blazefaceback.pth", biases)
    np.save(tmp_path / "anchorsback.npy", np.tile(np.array([0.5, 0.5, 1, 1], np.float32), (896, 1)))
    finder = create_face_detector("blazeface", device="cpu", max_faces=5, weights=str(tmp_path))
    image = np.zeros((60, 80, 3), np.uint8)
    assert finder.find([image, image]) == [[pytest.approx((25, 15, 55, 45))]] * 2
