"""A driver's motion over a film's: both faces are the canonical head, so that what is driven equals the driver."""

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pytest

from pipelines.faces.head_pose import CANONICAL_LANDMARKS
from pipelines.media.frame_times import FrameTimes
from training.animation.driver_track import DriverTrack
from training.animation.film.lay_over import lay_over
from training.animation.retarget import MotionOptions

MakeFace = Callable[..., np.ndarray]
LIPS, EYES = slice(48, 68), slice(36, 48)
DUB = MotionOptions(smoothing=0.0, parts=("lips",))


def head(open_mouth: float = 0.0, shut_eyes: float = 0.0) -> np.ndarray:
    """The canonical head with its lower lip and chin moved down, and its upper lids too, by centimetres."""
    points = CANONICAL_LANDMARKS.copy()
    points[[*range(55, 60), 65, 66, 67, *range(6, 11)], 1] += open_mouth
    points[[37, 38, 43, 44], 1] += shut_eyes
    return points


def track(frames: Sequence[np.ndarray], fps: int = 10, found: str | None = None) -> DriverTrack:
    times = FrameTimes(np.arange(len(frames)) / fps, Fraction(fps), constant=True)
    seen = np.array([mark == "x" for mark in found or "x" * len(frames)])
    gaze = np.tile(np.array([[0.5, 0.0]] * 2, np.float32), (len(frames), 1, 1))
    return DriverTrack(np.stack(frames).astype(np.float32), gaze, seen, times, "mediapipe")


def test_lips_follow_the_driver_by_time_and_all_else_is_the_films_own(face: MakeFace) -> None:
    film = track([face(200, 100 + 3 * i, 300, head=head(shut_eyes=0.05 * i)) for i in range(8)], fps=20)
    driver = track([face(100, head=head(open_mouth=each)) for each in (0, 1, 2, 1)], fps=10)
    targets = lay_over(film, driver, DUB)
    others = [0, 1, *range(15, 48)]
    np.testing.assert_array_equal(targets.landmarks[:, others], film.landmarks[:, others])
    assert targets.shares.tolist() == [1] * 8
    # Frame 3 of the film, at 0.15 s, lies halfway between the driver's at 0.1 s (1 cm) and 0.2 s (2 cm).
    wanted = face(200, 109, 300, head=head(open_mouth=1.5))
    np.testing.assert_allclose(targets.landmarks[3, LIPS], wanted[LIPS], atol=0.3)
    np.testing.assert_allclose(targets.landmarks[3, 8], wanted[8], atol=0.3)


def test_other_parts_are_driven_when_asked_for(face: MakeFace) -> None:
    film = track([face(200, head=head(open_mouth=1.0)), face(200)])
    driver = track([face(100), face(100, head=head(shut_eyes=0.4))])
    targets = lay_over(film, driver, MotionOptions(smoothing=0.0, parts=("eyes",)))
    np.testing.assert_array_equal(targets.landmarks[:, LIPS], film.landmarks[:, LIPS])
    np.testing.assert_allclose(targets.landmarks[1, EYES], face(200, head=head(shut_eyes=0.4))[EYES], atol=0.3)


def test_a_driven_head_turns_as_the_drivers(face: MakeFace) -> None:
    film, driver = track([face(200)] * 2), track([face(100), face(100, yaw=8)])
    targets = lay_over(film, driver, MotionOptions(smoothing=0.0, parts=("pose",)))
    np.testing.assert_allclose(targets.landmarks[1], face(200, yaw=8), atol=0.5)


@pytest.mark.parametrize("yaw", [-20, 0, 25])
def test_a_closed_mouth_stays_in_its_place_on_a_face_that_turns_while_it_speaks(face: MakeFace, yaw: float) -> None:
    deep = CANONICAL_LANDMARKS.copy()
    deep[LIPS, 2] -= 1.5  # this person's lips stand out further than those of the head that poses are fitted with
    turns = [0, yaw, *np.linspace(-25, 25, 18)]
    speech = [0.0, 1.0, *(i % 3 / 2 for i in range(18))]
    film = track(
        [face(200, yaw=a, head=deep + head(b) - CANONICAL_LANDMARKS) for a, b in zip(turns, speech, strict=True)]
    )
    targets = lay_over(film, track([face(100)] * 20), DUB)
    corners = [48, 54]
    slip = targets.landmarks[1, corners] - face(200, yaw=yaw, head=deep)[corners]
    assert np.abs(slip).max() < 1  # pixels, of a face of 200; without the fit of turns 7 and 9


def test_frames_without_the_face_or_after_the_driver_are_the_films_own(face: MakeFace) -> None:
    speaks, silent = face(200, head=head(open_mouth=0.5)), face(200)
    film = track([speaks] * 15 + [silent] * 15, found="x" * 5 + ".." + "x" * 23)
    targets = lay_over(film, track([face(100)] * 10), DUB)
    # The driver ends at 1 s: from 0.7 s on its motion fades, by 3 s² - 2 s³ of the thirds of 0.3 s that are left.
    assert targets.shares[:12].round(3).tolist() == pytest.approx([1] * 5 + [0] * 2 + [1, 0.741, 0.259, 0, 0], abs=1e-3)
    np.testing.assert_array_equal(targets.landmarks[10:], film.landmarks[10:])
    assert targets.landmarks[0, 66, 1] < film.landmarks[0, 66, 1] - 2  # shut
    absent = track([face(100)] * 30, found="x" * 10 + "." * 20)
    assert lay_over(film, absent, DUB).shares[20] == 1
    assert lay_over(film, absent, DUB, "rest").shares[20] == 0


def test_a_film_cannot_leave_out_frames(face: MakeFace) -> None:
    film, driver = track([face(200)]), track([face(100)] * 2, found="x.")
    with pytest.raises(ValueError, match="--on-missing cut leaves out a driver's frames"):
        lay_over(film, driver, DUB, "cut")
    with pytest.raises(ValueError, match="no face in 1 of 2 driver frames"):
        lay_over(film, driver, DUB, "fail")
