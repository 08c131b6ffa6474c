from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.interpolate import RBFInterpolator
from torch import Tensor
from torch.nn import functional as F

from pipelines.faces.head_pose import CANONICAL_LANDMARKS
from training.warp.apply import warp_person, warp_shot, warp_with_field
from training.warp.control_points import REACH, control_points
from training.warp.field import WarpField, spline_field, warp_field
from training.warp.matted_shot import make_shot
from training.warp.spline import displacement, identity_grid, sampling_grid, warp

SIZE = 64
CPU = torch.device("cpu")
MakeFace = Callable[..., np.ndarray]


@pytest.fixture
def points(face: MakeFace) -> Callable[..., Tensor]:
    """Control points of a drawn face in a crop of SIZE pixels, a batch of one."""

    def make(**pose: float) -> Tensor:
        return torch.from_numpy(control_points(face(**{"size": 38.0, "x": 32.0, "y": 34.0, **pose})[None], SIZE))

    return make


def test_a_target_equal_to_its_source_gives_exactly_the_identity(points: Callable[..., Tensor]) -> None:
    same = points(yaw=10.0)
    assert torch.equal(sampling_grid(same, same, SIZE, smoothing=torch.zeros(120))[0], identity_grid(SIZE, CPU))
    assert not warp_field(same, same).spline.any()
    picture = torch.rand(1, 3, SIZE, SIZE) * 2 - 1
    # grid_sample computes its weights from the grid: the last bit may differ.
    for person in (0.0, 0.5, 1.0):
        shot = make_shot(picture, torch.full((1, SIZE, SIZE), person))
        assert torch.allclose(warp_shot(shot, picture, same, same).frame, shot[:, :4], atol=1e-5)


def test_the_identity_grid_samples_pixel_centres() -> None:
    assert identity_grid(4, CPU)[0, :, 0].tolist() == [-0.75, -0.25, 0.25, 0.75]
    assert identity_grid(4, CPU)[:, 0, 1].tolist() == [-0.75, -0.25, 0.25, 0.75]


def test_control_points_put_pixel_centres_within_the_crops_edges(face: MakeFace) -> None:
    landmarks = face()
    landmarks[0] = [-0.5, 31.5]
    landmarks[1] = [15.5, 15.5]
    points = control_points(landmarks, 32)
    assert points[0].tolist() == [-1, 1]
    assert points[1].tolist() == [0, 0]
    # Still: a square of 24 points, and two columns of 7 beside the head.
    assert points.shape == (68 + 14 + 24 + 14, 2)
    still = points[-38:]
    beside = np.isclose(np.abs(still[:, 0]), 1.1)
    assert beside.sum() == 14
    assert np.abs(still[~beside]).max(axis=1).tolist() == [REACH] * 24


@pytest.mark.parametrize("landmark", [8, 33, 36, 48, 57])
def test_a_landmark_lands_where_asked(landmark: int, face: MakeFace) -> None:
    source, target = face(38, 32, 34), face(38, 33.5, 33, yaw=9.0, roll=4.0)
    y, x = np.mgrid[:SIZE, :SIZE]
    dot = np.exp(-((x - source[landmark, 0]) ** 2 + (y - source[landmark, 1]) ** 2) / 8).astype(np.float32)
    grid = warp_field(*(torch.from_numpy(control_points(p[None], SIZE)) for p in (source, target))).grid(SIZE)
    moved = warp(torch.from_numpy(dot)[None, None], grid)[0, 0].numpy()
    centre = (moved * x).sum() / moved.sum(), (moved * y).sum() / moved.sum()
    assert np.hypot(*(centre - target[landmark])) < 0.6
    assert np.hypot(*(source[landmark] - target[landmark])) > 0.9


def test_a_translation_of_all_points_shifts_the_picture() -> None:
    source = torch.rand(1, 20, 2) * 2 - 1
    step = 2 * 4 / SIZE  # four pixels
    grid = sampling_grid(source, source + torch.tensor([step, 0.0]), SIZE, smoothing=torch.zeros(20))
    assert torch.allclose(grid[0], identity_grid(SIZE, CPU) - torch.tensor([step, 0.0]), atol=1e-4)
    picture = torch.rand(1, 1, SIZE, SIZE)
    moved = warp(picture, grid)
    assert torch.allclose(moved[..., 4:], picture[..., :-4], atol=1e-2)
    assert torch.allclose(moved[..., :3], picture[..., :1].expand(-1, -1, -1, 3), atol=1e-2)  # the edge continues


def test_an_affine_map_is_found_exactly_whatever_the_smoothing() -> None:
    target = torch.rand(1, 30, 2) * 2 - 1
    matrix = torch.tensor([[0.9, 0.2], [-0.1, 1.1]])
    grid = sampling_grid(target @ matrix, target, 16, smoothing=torch.full((30,), 0.5))
    assert torch.allclose(grid[0], identity_grid(16, CPU) @ matrix, atol=1e-4)


def test_the_border_of_reach_holds_still(points: Callable[..., Tensor]) -> None:
    moved = warp_field(points(), points(x=34.0, yaw=12.0), extent=REACH).spline[0].norm(dim=-1)
    border = torch.cat([moved[0], moved[-1], moved[:, 0], moved[:, -1]])
    assert float(border.max()) < 0.02
    assert float(moved.max()) > 0.05


@pytest.mark.parametrize("smoothing", [np.zeros(120), np.full(120, 0.01), np.geomspace(1e-4, 1e-2, 120)])
def test_the_spline_is_scipys(smoothing: np.ndarray, points: Callable[..., Tensor]) -> None:
    source, target = points(), points(x=33.0, yaw=10.0, pitch=-5.0)
    grid = sampling_grid(source, target, 24, smoothing=torch.from_numpy(smoothing).float())[0].numpy()
    # scipy's kernel is r^2 log r too; its shift and scale of the polynomial change no value.
    spline = RBFInterpolator(
        target[0].double().numpy(),
        source[0].double().numpy(),
        kernel="thin_plate_spline",
        smoothing=smoothing,
        degree=1,
    )
    pixels = identity_grid(24, CPU).reshape(-1, 2).double().numpy()
    assert np.abs(grid.reshape(-1, 2) - spline(pixels)).max() < 2e-3  # float32 against float64


def test_what_trembles_moves_less_than_what_moves_on_its_own(face: MakeFace) -> None:
    """A nose that a detector sees elsewhere stays with the head; a mouth's corner goes where its lips are asked to."""
    source = face(38, 32, 34)

    def moved(*landmarks: int) -> float:
        """Of a step of a pixel that landmarks take, the part that the picture takes at the first."""
        target = source.copy()
        target[[*landmarks], 1] += 1.0
        ours, wanted = (torch.from_numpy(control_points(points[None], SIZE)) for points in (source, target))
        column, row = np.rint(target[landmarks[0]]).astype(int)
        return float(-displacement(warp_field(ours, wanted).grid(SIZE))[0, row, column, 1]) * SIZE / 2

    assert moved(48, 49, 59, 60) > 0.8
    assert moved(48) > 0.5
    assert moved(33) < 0.2
    assert moved(4) < 0.25


def test_points_that_coincide_in_the_target_do_not_fold_the_picture(face: MakeFace) -> None:
    """A shut eye can open: lids on one place in the target, apart in the source."""
    open_eyes = face(38, 32, 34)
    shut = open_eyes.copy()
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
        shut[upper] = shut[lower] = (open_eyes[upper] + open_eyes[lower]) / 2
    for source, target in ((open_eyes, shut), (shut, open_eyes)):
        points = (torch.from_numpy(control_points(p[None], SIZE)) for p in (source, target))
        grid = spline_field(*points, SIZE).grid(SIZE)[0]
        assert torch.isfinite(grid).all()
        assert float((grid[:, 1:, 0] - grid[:, :-1, 0]).min()) > 0
        assert float((grid[1:, :, 1] - grid[:-1, :, 1]).min()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("width", [0.9, 1.0])
@pytest.mark.parametrize(
    ("before", "after"), [(0.0, -25.0), (-15.0, -30.0), (-15.0, 10.0), (-20.0, 15.0), (-20.0, -30.0)]
)
def test_a_face_that_turns_on_is_not_folded(before: float, after: float, width: float, face: MakeFace) -> None:
    """Points at the end of the cheeks folded the far one, though metrics improved."""
    head = CANONICAL_LANDMARKS * [width, 1, 1]
    source = face(38.0, 32.0, 34.0, yaw=before, head=head)
    target = face(38.0, 32.0, 34.0, yaw=after, pitch=-8.0, roll=8.0, head=head)
    grid = warp_field(*(torch.from_numpy(control_points(p[None], SIZE)) for p in (source, target))).grid(2 * SIZE)[0]
    across, down = grid[:-1, 1:] - grid[:-1, :-1], grid[1:, :-1] - grid[:-1, :-1]
    assert float((across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]).min()) > 0


def test_each_pair_of_a_batch_is_its_own(points: Callable[..., Tensor]) -> None:
    sources, targets = torch.cat([points(), points(yaw=5.0)]), torch.cat([points(yaw=8.0), points(roll=6.0)])
    together = warp_field(sources, targets).grid(16)
    alone = torch.cat([warp_field(sources[i : i + 1], targets[i : i + 1]).grid(16) for i in range(2)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_a_batch_is_bent_whatever_the_number_of_threads(points: Callable[..., Tensor]) -> None:
    """As Ray's workers set it, which failed in MKL with several threads."""
    sources = torch.cat([points(), points(yaw=5.0), points(pitch=4.0)])
    targets = torch.cat([points(yaw=8.0), points(roll=6.0), points(x=34.0)])
    before = torch.get_num_threads()
    try:
        splines = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            splines.append(warp_field(sources, targets).spline)
    finally:
        torch.set_num_threads(before)
    assert torch.allclose(*splines, atol=1e-4)


def test_the_landmark_image_is_bent_along(points: Callable[..., Tensor]) -> None:
    frame, image = _all_person(torch.rand(1, 3, SIZE, SIZE)), torch.rand(1, 3, SIZE, SIZE)
    source, target = points(), points(yaw=10.0)
    shot = warp_shot(frame, image, source, target)
    grid = warp_field(source, target).grid(SIZE)
    assert torch.allclose(shot.frame, warp(frame[:, :4], grid), atol=1e-6)
    assert torch.allclose(shot.landmark_image, warp(image, grid), atol=1e-6)


def test_a_larger_frame_is_bent_at_its_own_size_and_averaged(points: Callable[..., Tensor]) -> None:
    image, source, target = torch.rand(1, 3, SIZE, SIZE), points(), points(yaw=10.0)
    fine = _all_person(torch.rand(1, 3, 2 * SIZE, 2 * SIZE))
    sampled = warp(fine[:, :4], warp_field(source, target).grid(2 * SIZE))
    by_hand = (
        sampled[..., ::2, ::2] + sampled[..., 1::2, ::2] + sampled[..., ::2, 1::2] + sampled[..., 1::2, 1::2]
    ) / 4
    # The grid is solved at the small size and interpolated: hardly anything lies between.
    assert float((warp_shot(fine, image, source, target).frame - by_hand).abs().mean()) < 0.01
    # Sampled half a pixel off the small picture itself, what is finely striped would be grey; so it keeps its stripes.
    stripes = torch.ones(1, 3, 2 * SIZE, 2 * SIZE)
    stripes[..., 1::4] = stripes[..., 2::4] = -1
    stripes = _all_person(stripes)
    half_a_pixel = WarpField.spline_only(torch.full((1, SIZE, SIZE, 2), 1 / SIZE))
    moved = warp_with_field(stripes, image, half_a_pixel)
    small = warp_with_field(_all_person(F.avg_pool2d(stripes[:, :3], 2)), image, half_a_pixel)
    assert float(moved.frame[:, :3, :, 1:-1].abs().min()) > 0.9
    assert float(small.frame[:, :3, :, 1:-1].abs().max()) < 0.1


def test_only_the_person_is_bent_and_what_is_behind_stands_still() -> None:
    """A person of three columns steps two to the right; numbers are columns of the shot, in hundredths."""
    picture = (torch.arange(16) / 100).expand(1, 3, 16, 16)
    person = torch.zeros(1, 16, 16)
    person[..., 5:8] = 1
    bent = warp_person(make_shot(picture, person), WarpField.spline_only(torch.full((1, 16, 16, 2), -2 * 2 / 16)))
    columns = (bent[0, 0, 8] * 100).round().int().tolist()
    # 7 to 9: the person. 5 and 6, where they stood: between what is left and right of them. The rest stands.
    assert columns[:4] + columns[7:] == [0, 1, 2, 3, 5, 6, 7, 10, 11, 12, 13, 14, 15]
    assert columns[4] <= columns[5] <= columns[6]
    assert bent[0, 3, 8].round().int().tolist() == [0] * 7 + [1] * 3 + [0] * 6


def test_half_a_person_is_bent_by_half() -> None:
    picture = (torch.arange(16) / 100).expand(1, 3, 16, 16)
    shot = make_shot(picture, torch.full((1, 16, 16), 0.5))
    bent = warp_person(shot, WarpField.spline_only(torch.full((1, 16, 16, 2), -2 * 2 / 16)))
    torch.testing.assert_close(bent[0, :3, :, 2:], picture[0, :, :, 2:] - 0.01, atol=3e-3, rtol=0)


def _all_person(pictures: Tensor) -> Tensor:
    return make_shot(pictures, torch.ones_like(pictures[:, 0]))


def test_a_spline_is_sampled_at_any_size() -> None:
    matrix, shift = torch.tensor([[0.05, 0.02], [-0.03, 0.04]]), torch.tensor([0.1, -0.2])
    coarse, fine = (identity_grid(size, CPU)[None] for size in (8, 32))
    sampled = WarpField.spline_only(coarse @ matrix + shift).grid(32)
    # Beyond the outermost coarse pixel centres bilinear interpolation has nothing to go by.
    inner = slice(2, -2)
    assert torch.allclose(sampled[:, inner, inner], (fine + fine @ matrix + shift)[:, inner, inner], atol=1e-6)
    assert torch.equal(WarpField.spline_only(torch.zeros(1, 8, 8, 2)).grid(32), fine)
