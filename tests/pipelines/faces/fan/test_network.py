from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import assets
from pipelines.faces.face import Box, Face, make_face
from pipelines.faces.fan.network import HINT_SCALE, Fan, View, cut, fits, load_fan, read_heat_maps, view_of
from pipelines.media import images

# Boxes of the painted face and of parts of the picture, one of them across its border.
BOXES = [(243.0, 154.0, 443.0, 428.0), (-40.0, 300.0, 250.0, 610.0), (30.5, 40.25, 131.75, 160.5)]


@pytest.fixture(scope="module")
def mona_lisa() -> np.ndarray:
    return images.read_image(assets.fetch("mona_lisa"))


class Peaks(torch.nn.Module):
    """Stands in for FAN: the heat maps of a crop have one peak each, at (20 + i % 8, 30) with the crop's mean."""

    def forward(self, crops: torch.Tensor) -> list[torch.Tensor]:
        maps = torch.zeros(len(crops), 68, 64, 64)
        for index in range(68):
            maps[:, index, 30, 20 + index % 8] = crops.mean(dim=(1, 2, 3))
        return [torch.zeros_like(maps), maps]


@pytest.mark.slow
@pytest.mark.parametrize("reference_scale", [195.0, 165.0])
def test_a_batch_gives_what_the_library_gives_per_picture(
    mona_lisa: np.ndarray, reference_scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random weights: the heat maps have their peaks anywhere, so every way of a point into the picture is taken."""
    import face_alignment
    from face_alignment import utils
    from face_alignment.models import FAN

    for name in ("_get_preds_fromhm", "transform_np"):  # compiling takes longer than what is compiled
        monkeypatch.setattr(utils, name, getattr(utils, name).py_func)
    torch.manual_seed(0)
    network = FAN(1).eval()
    library = object.__new__(face_alignment.FaceAlignment)  # its constructor wants S3FD's weights
    library.face_alignment_net, library.device, library.dtype = network, "cpu", torch.float32
    library.flip_input, library.max_batch_size = False, 1
    library.landmarks_type = face_alignment.LandmarksType.TWO_D
    library.face_detector = type("Detector", (), {"reference_scale": reference_scale})()
    pictures = [mona_lisa, np.ascontiguousarray(mona_lisa[::-1])]
    jobs = [(picture, box) for picture in pictures for box in BOXES]
    views = [view_of(box, reference_scale) for _, box in jobs]
    faces = Fan(network).faces([cut(picture, view) for (picture, _), view in zip(jobs, views, strict=True)], views)
    expected = [
        (points, score.mean())
        for picture in pictures
        for points, score in zip(
            *library.get_landmarks_from_image(picture, detected_faces=BOXES, return_landmark_score=True)[:2],
            strict=True,
        )
    ]
    assert len(faces) == len(expected) == 6
    for face, (points, score) in zip(faces, expected, strict=True):
        # The library cuts the fraction off, and of some whole numbers more: its matrix inverse gives 297.9999 for 298.
        fraction = np.abs(face.landmarks) - np.abs(points)
        assert fraction.min() > -1e-3
        assert fraction.max() < 1 + 1e-3
        assert (np.trunc(face.landmarks) == points).mean() > 0.95
        assert face.score == pytest.approx(np.clip(score, 0, 1), abs=1e-4)
    assert len({tuple(face.landmarks.ravel()) for face in faces}) == 6


def test_a_view_is_above_the_boxs_middle_and_larger() -> None:
    view = view_of((0.0, 0.0, 90.0, 105.0), 195.0)
    assert (view.x, view.y, view.side) == pytest.approx((45, 52.5 - 0.12 * 105, 200))


def test_peaks_become_points_of_the_picture_and_a_score() -> None:
    """By hand: the cell (20, 30) of 64 has its centre at (20.5, 30.5) / 64 of the view."""
    crops = [np.full((256, 256, 3), 51, np.uint8), np.full((256, 256, 3), 255, np.uint8)]
    first, second = Fan(Peaks()).faces(crops, [View(0.0, 0.0, 64.0), View(100.0, 200.0, 128.0)])
    assert first.landmarks[0] == pytest.approx((20.5 - 32, 30.5 - 32))
    assert first.landmarks[9] == pytest.approx((21.5 - 32, 30.5 - 32))
    assert second.landmarks[0] == pytest.approx((100 - 64 + 41, 200 - 64 + 61))
    assert (first.score, second.score) == pytest.approx((0.2, 1.0))
    assert Fan(Peaks()).faces([], []) == []


def test_a_gpu_is_asked_for_single_precision_and_the_same_way_every_time() -> None:
    seen = []

    class Looks(Peaks):
        def forward(self, crops: torch.Tensor) -> list[torch.Tensor]:
            seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic, crops.dtype))
            return super().forward(crops)

    before = torch.backends.cudnn.allow_tf32
    Fan(Looks()).faces([np.zeros((256, 256, 3), np.uint8)], [View(0.0, 0.0, 64.0)])
    assert seen == [(False, True, torch.float32)]
    assert torch.backends.cudnn.allow_tf32 == before


def test_a_peak_leans_towards_its_higher_neighbours_but_not_at_the_border() -> None:
    maps = np.zeros((1, 3, 64, 64), np.float32)
    maps[0, 0, 10, 20], maps[0, 0, 10, 21], maps[0, 0, 9, 20] = 0.9, 0.5, 0.4
    maps[0, 1, 10, 20] = 0.8
    maps[0, 2, 0, 20], maps[0, 2, 0, 21] = 0.7, 0.6
    points, peaks = read_heat_maps(maps)
    assert points[0] * 64 == pytest.approx(np.array([[20.75, 10.25], [20.5, 10.5], [20.5, 0.5]]))
    assert peaks[0] == pytest.approx([0.9, 0.8, 0.7])


def test_landmarks_fit_where_a_face_lies_in_the_view() -> None:
    def face(x: float, y: float, size: float) -> Face:
        points = np.full((68, 2), (x - size / 2, y - size / 2), np.float32)
        points[8] = (x + size / 2, y + size / 2)
        return make_face(points, 1.0)

    view = View(100.0, 100.0, 100.0)
    assert fits(face(100.0, 112.0, 36.0), view)
    assert fits(face(105.0, 118.0, 43.0), view)
    assert not fits(face(100.0, 95.0, 36.0), view)
    assert not fits(face(114.0, 112.0, 36.0), view)
    assert not fits(face(100.0, 112.0, 15.0), view)
    assert not fits(face(100.0, 112.0, 80.0), view)


def test_hints_that_are_loose_or_tight_still_fit() -> None:
    """The Mona Lisa's landmarks span about (250, 190) to (432, 425)."""
    points = np.full((68, 2), (250, 190), np.float32)
    points[8] = (432, 425)
    face = make_face(points, 1.0)
    for hint in ((240, 130, 440, 430), (190, 90, 490, 480), (250, 190, 432, 425)):
        box: Box = tuple(map(float, hint))  # type: ignore[assignment]
        assert fits(face, view_of(box, HINT_SCALE))


@pytest.mark.slow
def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth does not hold the weights of FAN"):
        load_fan(tmp_path / "other.pth", "cpu")
    (tmp_path / "text.pth").write_bytes(b"not a network")
    with pytest.raises(ValueError, match=r"text\.pth does not hold the weights of FAN"):
        load_fan(tmp_path / "text.pth", "cpu")
