"""Which shot a frame starts from."""

import numpy as np
import pytest

from training.animation.shots.choice import ShotShares, choose_shots, shot_distances


def test_frames_that_do_not_follow_each_other_take_the_nearest_shot() -> None:
    distances = np.array([[3.0, 1.0], [1.0, 3.0], [2.0, 1.9]])
    assert choose_shots(distances, None).tolist() == [[0, 1], [1, 0], [0, 1]]


def test_a_switch_that_saves_little_is_not_made() -> None:
    """One frame that suits the other shot better by 5 would cost two switches."""
    distances = np.tile([1.0, 6.0], (40, 1))
    distances[20] = [6.0, 1.0]
    assert choose_shots(distances, 25.0).tolist() == [[1, 0]] * 40


def test_a_switch_that_pays_is_made_as_a_cross_fade() -> None:
    distances = np.array([[0.0, 9.0]] * 30 + [[9.0, 0.0]] * 30)
    shares = choose_shots(distances, 25.0)
    assert shares.sum(axis=1) == pytest.approx(np.ones(60))
    # Two frames on either side, by a smooth step: x^2 (3 - 2 x) at 1/5, 2/5, ...
    assert shares[28:32, 1] == pytest.approx([0.104, 0.352, 0.648, 0.896])
    assert (shares[:28, 0] == 1).all()
    assert (shares[32:, 1] == 1).all()


def test_cross_fades_never_mix_three_shots() -> None:
    distances = np.full((9, 3), 99.0)
    distances[:3, 0] = distances[3:6, 1] = distances[6:, 2] = 0
    shares = choose_shots(distances, 60.0)
    assert (np.count_nonzero(shares, axis=1) <= 2).all()
    assert shares.sum(axis=1) == pytest.approx(np.ones(9))


def test_an_open_mouth_prefers_a_shot_with_an_open_mouth(face) -> None:  # type: ignore[no-untyped-def]
    shut = face(20.0, yaw=2.0)
    opened = face(20.0)
    opened[[65, 66, 67, 56, 57, 58]] += [0, 2.0]
    target = face(20.0, yaw=2.0)
    target[[65, 66, 67, 56, 57, 58]] += [0, 2.0]
    assert shot_distances(np.stack([shut, opened]), target[None], 32).argmin() == 1


def test_a_shot_that_draws_only_a_mouth_is_needed_and_named_too() -> None:
    head = np.array([[1, 0], [1, 0]], np.float32)
    shares = ShotShares(head, {"lips": np.array([[1, 0], [0, 1]], np.float32)})
    assert shares.used.tolist() == [[True, False], [True, True]]
    assert shares[1:].used.tolist() == [[True, True]]
    assert shares.named(["a.jpg", "b.jpg"]) == ({"a.jpg": 1.0}, {"lips": {"a.jpg": 0.5, "b.jpg": 0.5}})
