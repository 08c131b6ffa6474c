from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from pipelines.preprocess.frame_sampling import candidate_indices, choose_frames, farthest_points

Fixture = Callable[..., Any]


def test_candidates_are_the_middles_of_equal_parts() -> None:
    assert candidate_indices(100, Fraction(25), 4, least=1, fps_limit=25.0) == (12, 37, 62, 87)


def test_candidates_are_no_denser_than_the_limit_but_never_fewer_than_a_row_needs() -> None:
    assert len(candidate_indices(100, Fraction(25), 48, least=3, fps_limit=2.0)) == 8
    assert len(candidate_indices(100, Fraction(25), 48, least=9, fps_limit=2.0)) == 9
    assert candidate_indices(4, Fraction(25), 48, least=9, fps_limit=12.5) == (0, 1, 2, 3)


def test_candidates_of_a_long_clip_span_all_of_it() -> None:
    indices = candidate_indices(270_000, Fraction(25), 48, least=9, fps_limit=12.5)
    assert len(indices) == 48
    assert indices[0] < 3_000
    assert indices[-1] > 267_000


def test_few_frames_are_all_kept(face_points: Fixture) -> None:
    assert choose_frames(np.stack([face_points()] * 3), 5) == (0, 1, 2)


def test_rare_expressions_are_kept_and_repeats_are_not(face_points: Fixture) -> None:
    frames = np.stack([face_points(size=200) for _ in range(40)])
    frames[17, [65, 66, 67], 1] += 30  # one open mouth
    frames[29, [37, 38, 43, 44], 1] += 6  # one moment with lowered lids
    chosen = choose_frames(frames, 4)
    assert {17, 29} <= set(chosen)
    assert list(chosen) == sorted(chosen)
    assert len(set(chosen)) == 4


def test_frames_that_differ_most_are_chosen() -> None:
    features = np.array([[0.0], [0.1], [5.0], [-4.0], [0.05]])
    assert set(farthest_points(features, 3)) == {4, 2, 3}  # the median, and both ends
    assert sorted(farthest_points(features, 9)) == [0, 1, 2, 3, 4]
    assert sorted(farthest_points(np.zeros((4, 2)), 3)) != []
    assert len(set(farthest_points(np.zeros((4, 2)), 3))) == 3  # equal frames are not taken twice
