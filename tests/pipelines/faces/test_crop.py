from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipelines.faces.crop import CropRule, crop, crop_affine, to_crop, to_source
from pipelines.faces.face import make_face
from pipelines.faces.tracking import AmbiguousFace, choose_track, link_tracks

Fixture = Callable[..., Any]


def box_points(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    points = np.full((68, 2), [(x0 + x1) / 2, (y0 + y1) / 2], np.float32)
    points[0], points[1] = (x0, y0), (x1, y1)
    return points


def test_the_square_is_the_rule_worked_out_by_hand() -> None:
    # Box 100 x 80 centred at (200, 150): side 2 x 100 = 200, centre moved up by 0.12 x 200 = 24 to (200, 126).
    affine = crop_affine(box_points(150, 110, 250, 190)[None], CropRule(margin=2.0, up=0.12), 100)
    # Two source pixels per crop pixel; the edge lies at 100, so crop pixel 0 covers 100..102 and its centre is 101.
    assert affine == pytest.approx(np.array([[2, 0, 101], [0, 2, 27]]))


def test_one_outlying_frame_grows_the_square_until_its_box_fits() -> None:
    near = box_points(150, 110, 250, 190)
    far = box_points(350, 110, 450, 190)
    frames = np.stack([near, near, far])
    affine = crop_affine(frames, CropRule(), 256)
    inside = to_crop(frames, affine)
    assert inside.min() >= 0.049 * 256 - 0.5
    assert inside.max() <= 0.951 * 256 - 0.5
    assert crop_affine(frames[:2], CropRule(), 256)[0, 0] < affine[0, 0]


def test_landmarks_go_to_the_crop_and_back(face_points: Fixture) -> None:
    points = face_points(size=90, x=300, y=200)
    affine = crop_affine(points[None], CropRule(), 256)
    inside = to_crop(points, affine)
    assert inside.dtype == np.float32
    assert to_source(inside, affine) == pytest.approx(points, abs=1e-3)
    # The box's larger side is 1 / margin of the crop.
    assert np.ptp(inside, axis=0).max() == pytest.approx(128, abs=0.01)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.7])
def test_a_mark_in_the_picture_lies_where_the_affine_says(scale: float) -> None:
    y, x = np.mgrid[0:400, 0:500].astype(np.float32)
    image = np.clip(255 * np.exp(-((x - 260) ** 2 + (y - 190) ** 2) / (2 * (6 * scale) ** 2)), 0, 255)
    image = np.repeat(image[:, :, None], 3, axis=2).astype(np.uint8)
    affine = np.array([[scale, 0, 260 - 40.3 * scale], [0, scale, 190 - 30.6 * scale]])
    cut = crop(image, affine, 80)[:, :, 0].astype(np.float64)
    cut[cut < 20] = 0
    rows, columns = np.mgrid[0:80, 0:80]
    centre = ((columns * cut).sum() / cut.sum(), (rows * cut).sum() / cut.sum())
    assert centre == pytest.approx((40.3, 30.6), abs=0.1)


def test_shrinking_averages_areas() -> None:
    checks = np.indices((256, 256)).sum(axis=0) % 2 * 255
    image = np.repeat(checks[:, :, None], 3, axis=2).astype(np.uint8)
    cut = crop(image, np.array([[4.0, 0, 1.5], [0, 4.0, 1.5]]), 64)
    assert np.abs(cut.astype(int) - 127.5).max() <= 1


def test_outside_the_picture_the_edge_is_repeated() -> None:
    image = np.zeros((50, 50, 3), np.uint8)
    image[:, 0] = (10, 200, 30)
    cut = crop(image, np.array([[1.0, 0, -20], [0, 1.0, 0]]), 40)
    assert (cut[:, :20] == (10, 200, 30)).all()


def test_landmarks_without_extent_or_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="coincide"):
        crop_affine(np.zeros((2, 68, 2)), CropRule(), 64)
    with pytest.raises(ValueError, match="0 frames"):
        crop_affine(np.zeros((0, 68, 2)), CropRule(), 64)
    with pytest.raises(ValueError, match=r"margin.*0\.5"):
        CropRule(margin=0.5)


def face(x: float, size: float) -> Any:
    return make_face(box_points(x, 100, x + size, 100 + size), 1.0)


def test_a_face_that_moves_little_is_one_track_over_a_gap() -> None:
    tracks = link_tracks([[face(100, 80)], [face(110, 80)], [], [face(125, 80)]])
    assert [track.frames for track in tracks] == [(0, 1, 3)]


def test_after_a_jump_the_longer_track_wins() -> None:
    frames = [[face(100, 80)], [face(600, 80)], [face(605, 80)], [face(610, 80)]]
    track = choose_track(frames)
    assert track is not None
    assert track.frames == (1, 2, 3)


def test_a_small_face_in_the_background_is_ignored() -> None:
    track = choose_track([[face(100, 90), face(400, 30)]] * 4)
    assert track is not None
    assert {f.box[0] for f in track.faces} == {100.0}


def test_two_equal_faces_together_are_ambiguous_and_one_after_the_other_are_not() -> None:
    with pytest.raises(AmbiguousFace, match="two faces"):
        choose_track([[face(100, 80), face(400, 75)]] * 4)
    assert choose_track([[face(100, 80)]] * 3 + [[face(400, 75)]] * 2) is not None


def test_no_face_is_no_track() -> None:
    assert choose_track([[], []]) is None
