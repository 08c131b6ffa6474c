from collections.abc import Callable

import numpy as np
import pytest
import torch

from pipelines.faces.head_pose import CANONICAL_LANDMARKS, MIRRORED, Pose, fit_pose
from training.warp.apply import fill_mirrored
from training.warp.control_points import control_points
from training.warp.field import WarpField, warp_field
from training.warp.hidden_half import (
    HEAD_AXES,
    HEAD_CENTRE,
    facing,
    head_normals,
    mirrored_half,
    mirrored_spline,
    newly_visible,
    reflection,
)
from training.warp.mirrored_light import mirrored_gain
from training.warp.spline import identity_grid

MakeFace = Callable[..., np.ndarray]
SIZE = 64
ONES = torch.ones(1, 3)
SEEN, HIDDEN = (22, 40), (42, 40)  # pixels on the cheek at the image's left and right of the frontal face of `turned`


def pose(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> Pose:
    return Pose.from_angles(
        *(np.array([float(angle)]) for angle in (yaw, pitch, roll)), np.array([2.0]), np.array([[30.0, 20.0]])
    )


def points(landmarks: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(control_points(landmarks[None], SIZE))


def turned(face: MakeFace, from_yaw: float, to_yaw: float) -> WarpField:
    return warp_field(*(points(face(28, 32, 34, yaw=yaw)) for yaw in (from_yaw, to_yaw)), mirrored_gain=ONES)


def test_the_normals_of_an_unturned_head_are_those_of_its_ellipsoid() -> None:
    middle = np.array([30.0, 20.0]) + 2 * HEAD_CENTRE[:2]
    across = np.array([0.0, 0.5, 1.0, 2.0])[:, None] * [2 * HEAD_AXES[0], 0]
    normals, radius = head_normals(pose(0), (middle + across)[None])
    np.testing.assert_allclose(radius[0, 0], [0, 0.5, 1, 2])
    oblique = np.array([0.5 / HEAD_AXES[0], 0, -np.sqrt(0.75) / HEAD_AXES[2]])
    np.testing.assert_allclose(
        normals[0, 0], [[0, 0, -1], oblique / np.linalg.norm(oblique), [1, 0, 0], [1, 0, 0]], atol=1e-9
    )


def test_a_point_of_a_turned_head_is_found_where_it_is_projected() -> None:
    """On a head that turns, leans and tilts: its foremost point there, with the normal of the surface's equation."""
    head = pose(25, -10, 15)
    directions = np.array([[0.0, 0.1, -1.0], [0.5, -0.4, -0.8], [-0.6, 0.3, -0.7]])
    sphere = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    outward = sphere / HEAD_AXES
    normals, radius = head_normals(head, head.project(HEAD_CENTRE + HEAD_AXES * sphere))
    np.testing.assert_allclose(normals[0, 0], outward / np.linalg.norm(outward, axis=1, keepdims=True), atol=1e-9)
    assert (radius < 1).all()


def test_the_cosine_towards_the_camera_follows_the_turn() -> None:
    """A head turned by 30 degrees to the right shows its right side's normal from behind by as much."""
    normals = np.array([[[[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]]])
    cosines = facing(pose(30), normals)[0, 0]
    np.testing.assert_allclose(cosines, [np.sqrt(0.75), -0.5, 0.5], atol=1e-9)


@pytest.mark.parametrize(
    ("shot", "target", "left", "right"),
    [
        (25, -20, 0, 1),  # the cheek at the right was hidden, the other one was seen
        (-25, 20, 1, 0),
        (25, 25, 0, 0),  # nothing comes into view
        (25, 20, 0, 0),
        (0, 5, 0, 0),
        (0, 30, 0, 0),  # both sides are equally hidden in a frontal picture: the other one has nothing to show
    ],
)
def test_skin_is_taken_from_the_mirrored_half_where_it_comes_into_view(
    shot: float, target: float, left: float, right: float
) -> None:
    # Points on the sides of the head, before the ears: their normals are 75 degrees from the front.
    angle = np.radians(75)
    normal = np.array([np.sin(angle), 0, -np.cos(angle)])
    sphere = HEAD_AXES * normal / np.linalg.norm(HEAD_AXES * normal)
    sides = HEAD_CENTRE + HEAD_AXES * np.stack([sphere * [-1, 1, 1], sphere])
    after = pose(target)
    shares = newly_visible(pose(shot), after, *head_normals(after, after.project(sides)))[0, 0]
    np.testing.assert_allclose(shares, [left, right], atol=0.25)


def test_the_reflection_of_a_tilted_symmetric_face_is_itself_with_sides_exchanged() -> None:
    head = pose(0, 10, 20)
    landmarks = head.project(CANONICAL_LANDMARKS)[0]
    linear, shift = (each[0] for each in reflection(head))
    np.testing.assert_allclose((landmarks @ linear.T + shift)[[*MIRRORED]], landmarks, atol=1e-6)
    np.testing.assert_allclose(linear @ linear, np.eye(2), atol=1e-9)
    np.testing.assert_allclose(linear @ shift + shift, 0, atol=1e-9)


def test_the_mirrored_place_of_a_landmark_is_its_partner(face: MakeFace) -> None:
    """Also from a shot that looks to one side to a target that looks to the other."""
    shot, target = (points(face(28, 32, 34, yaw=yaw)) for yaw in (20.0, -20.0))
    spline = mirrored_spline(shot, target, SIZE)[0]
    for one, other in ((36, 45), (8, 8), (48, 54), (30, 30)):
        place = target[0, one]
        column, row = ((place + 1) * SIZE / 2 - 0.5).round().int().tolist()
        found = identity_grid(SIZE, torch.device("cpu"))[row, column] + spline[row, column]
        assert torch.linalg.norm(found - shot[0, other]) < 3 * 2 / SIZE


def test_a_head_that_hardly_turns_is_drawn_without_the_mirrored_half(face: MakeFace) -> None:
    assert turned(face, 25, 20).mirrored is None
    assert turned(face, 0, 6).mirrored is None
    assert mirrored_half(*(points(face(28, 32, 34, roll=roll)) for roll in (0.0, 40.0)), ONES, SIZE) is None
    assert turned(face, 25, -15).mirrored is not None


def test_what_comes_into_view_has_the_colour_of_the_other_half(face: MakeFace) -> None:
    """The shot looks to the right: its visible half is green, what is beyond it red; then it looks to the left."""
    shot = torch.full((1, 7, SIZE, SIZE), -1.0)
    edge = round(float(face(28, 32, 34, yaw=25.0)[45, 0]))
    shot[:, 1, :, :edge], shot[:, 0, :, edge:], shot[:, 3] = 1.0, 1.0, 1.0
    field = turned(face, 25.0, -20.0)
    frames = torch.zeros(1, 3, SIZE, SIZE)
    filled = fill_mirrored(frames, shot, field)
    cheek = face(28, 32, 34, yaw=-20.0)[14]
    column, row = round(float(cheek[0])) - 1, round(float(cheek[1]))
    assert filled[0, 1, row, column] > 0.7
    assert filled[0, 0, row, column] < -0.7
    assert (filled[..., : SIZE // 3] == 0).all()


def test_frames_stay_as_they_are_without_anything_to_fill(face: MakeFace) -> None:
    frames = torch.rand(1, 3, SIZE, SIZE)
    assert fill_mirrored(frames, torch.zeros(1, 7, SIZE, SIZE), turned(face, 20, 20)) is frames


@pytest.mark.parametrize(("factor", "gain"), [(1.0, 1.0), (0.6, 0.6), (0.2, 0.5)])  # the last is limited
def test_the_mirrored_half_gets_the_light_of_the_half_that_it_fills(face: MakeFace, factor: float, gain: float) -> None:
    landmarks = face(56, 64, 68, yaw=20.0)
    middle = float(fit_pose(landmarks).translation[0]) + 12  # of the nose's bridge, which is nearer to the camera
    light = np.where(np.arange(128) < middle, 1.0, factor)
    pixels = np.broadcast_to((150 + 12) * light[:, None] - 12, (128, 128, 3)).round().clip(0, 255).astype(np.uint8)
    np.testing.assert_allclose(mirrored_gain(pixels, landmarks), gain, atol=0.06)
