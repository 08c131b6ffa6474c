"""Mouth and eyes may come from other shots than the head."""

from collections.abc import Callable

import numpy as np
import pytest

from training.animation.shots.openings import choose_openings, lay_opening

_LOWER_LIP = [65, 66, 67, 56, 57, 58]


def opened(face: np.ndarray, by: float) -> np.ndarray:
    """Move the lower lip down by `by` pixels."""
    moved = face.copy()
    moved[_LOWER_LIP] += [0, by]
    return moved


def head_of(shot: int, frames: int) -> np.ndarray:
    return np.eye(2, dtype=np.float32)[[shot] * frames]


def test_an_open_mouth_is_that_of_a_picture_of_another_pose(face: Callable[..., np.ndarray]) -> None:
    """The head's own picture has its lips shut; the other smiles, but is turned by 20 degrees."""
    shots = np.stack([face(100.0), opened(face(100.0, yaw=20.0), 12.0)])
    targets = np.stack([face(100.0)] * 30 + [opened(face(100.0), 12.0)] * 30)
    openings = choose_openings(shots, targets, 160, head_of(0, 60), 25.0)
    assert list(openings) == ["lips"]  # the eyes stay the head's
    assert openings["lips"].sum(axis=1) == pytest.approx(np.ones(60))
    assert openings["lips"][[0, 20, 40, 59]].argmax(axis=1).tolist() == [0, 0, 1, 1]
    assert 0 < openings["lips"][29, 1] < openings["lips"][30, 1] < 1  # a cross-fade


def test_shut_lips_are_not_those_of_a_picture_that_shows_teeth(face: Callable[..., np.ndarray]) -> None:
    shots = np.stack([opened(face(100.0), 12.0), face(100.0, yaw=20.0)])
    openings = choose_openings(shots, face(100.0)[None], 160, head_of(0, 1), None)
    assert openings["lips"].tolist() == [[0.0, 1.0]]


def test_pictures_that_show_it_alike_leave_it_to_the_head(face: Callable[..., np.ndarray]) -> None:
    shots = np.stack([face(100.0), opened(face(100.0), 0.5)])
    assert choose_openings(shots, opened(face(100.0), 1.0)[None], 160, head_of(0, 1), None) == {}


def test_the_opening_has_the_light_of_the_region() -> None:
    """Skin of 120 beside skin of 60: the teeth of 90 become 180; half a share gives the mean with the region's 20."""
    inside = np.zeros((80, 80, 1), np.float32)
    inside[30:50, 30:50] = 1
    drawn, other = np.full((80, 80, 3), 120, np.float32), np.full((80, 80, 3), 60, np.uint8)
    drawn[30:50, 30:50], other[30:50, 30:50] = 20, 90
    laid = lay_opening(drawn, {1: other}, inside, np.array([0, 1], np.float32))
    assert laid[40, 40] == pytest.approx(np.full(3, 180), abs=2)
    assert (laid[10, 10] == 120).all()
    half = lay_opening(drawn, {1: other}, inside, np.array([0, 0.5], np.float32))
    assert half[40, 40] == pytest.approx(np.full(3, 100), abs=2)


def test_an_opening_beyond_the_region_changes_nothing() -> None:
    drawn, other = np.full((80, 80, 3), 120, np.float32), np.full((80, 80, 3), 60, np.uint8)
    laid = lay_opening(drawn, {1: other}, np.zeros((80, 80, 1), np.float32), np.array([0, 1], np.float32))
    assert (laid == 120).all()
