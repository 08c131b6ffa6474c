from collections.abc import Callable

import numpy as np
import pytest

from training.warp.source_choice import nearest_frames

MakeFace = Callable[..., np.ndarray]


@pytest.mark.parametrize(
    ("target", "nearest"),
    [
        ({"yaw": 8}, 1),  # 12, 3 of yaw, 8 + 15, 8 + 12
        ({"yaw": -12}, 0),
        ({"pitch": 8, "roll": 2}, 3),
        ({"roll": 11}, 2),
    ],
)
def test_the_warp_starts_from_the_nearest_pose(target: dict[str, float], nearest: int, face: MakeFace) -> None:
    candidates = np.stack([face(yaw=-20.0), face(yaw=5.0), face(roll=15.0), face(pitch=12.0)])
    assert nearest_frames(candidates, face(**target)[None], 64).tolist() == [nearest]


def test_place_and_size_count_as_well_as_turning(face: MakeFace) -> None:
    here = face(40.0, 32.0, 34.0)
    # Five degrees of yaw, or a fifth of the crop to the side, which counts as 40; a tenth larger counts as 10 and more.
    turned, aside, larger = face(40.0, 32.0, 34.0, yaw=5.0), here + np.array([12.8, 0.0]), face(44.0, 32.0, 34.0)
    assert nearest_frames(np.stack([aside, turned]), here[None], 64).tolist() == [1]
    assert nearest_frames(np.stack([larger, turned]), here[None], 64).tolist() == [1]
    # Fifteen degrees are more than either a tenth of the size or a twentieth of the crop.
    far = face(40.0, 32.0, 34.0, yaw=20.0)
    assert nearest_frames(np.stack([far, larger, turned]), np.stack([here, far]), 64).tolist() == [2, 0]
    assert nearest_frames(np.stack([far, here + np.array([3.2, 0.0])]), here[None], 64).tolist() == [1]


@pytest.mark.slow
def test_the_choice_does_not_depend_on_the_pictures_size(face: MakeFace) -> None:
    candidates, target = np.stack([face(yaw=9.0), face(yaw=2.0, roll=3.0), face(pitch=-6.0)]), face()[None]
    for factor in (1, 4):
        assert nearest_frames(candidates * factor, target * factor, 64 * factor).tolist() == [1]
