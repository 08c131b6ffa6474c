from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from pipelines.faces.face import make_face
from pipelines.preprocess.quality import (
    ClipRejected,
    QualityRule,
    RejectReason,
    brightness,
    check_faces,
    check_sharpness,
    sharpness,
)

Fixture = Callable[..., Any]


def test_only_what_lies_outside_the_clip_is_retryable() -> None:
    assert {str(reason) for reason in RejectReason if reason.retryable} == {
        "decoder_crashed",
        "internal",
        "missing",
        "storage",
        "timed_out",
    }
    assert {reason.status for reason in RejectReason} == {"rejected", "failed"}
    assert all((reason.status == "failed") == reason.retryable for reason in RejectReason)


@pytest.mark.parametrize(
    ("number", "size", "reason"),
    [(0, 100.0, RejectReason.NO_FACE), (8, 100.0, RejectReason.TOO_FEW_FRAMES), (9, 31.0, RejectReason.TOO_SMALL)],
)
def test_a_clip_below_a_threshold_is_rejected_with_its_reason(
    number: int, size: float, reason: RejectReason, face_points: Fixture
) -> None:
    faces = [make_face(face_points(size=size), 1.0)] * number
    with pytest.raises(ClipRejected) as caught:
        check_faces(faces, QualityRule())
    assert caught.value.reason is reason


def test_a_good_clip_passes(face_points: Fixture) -> None:
    check_faces([make_face(face_points(size=40), 1.0)] * 9, QualityRule())
    check_sharpness([4.0, 4.0, 0.1], QualityRule())
    with pytest.raises(ClipRejected, match="sharpness"):
        check_sharpness([4.0, 0.1, 0.1], QualityRule())


def test_blur_lowers_sharpness_and_the_background_does_not_count(face_points: Fixture) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    points = face_points(size=100)
    sharp = sharpness(noise, points)
    blurred = np.asarray(cv2.GaussianBlur(noise, (0, 0), 3), dtype=np.uint8)
    assert sharpness(blurred, points) < sharp / 100
    flat_face = noise.copy()
    flat_face[70:190, 70:190] = 90
    assert sharpness(flat_face, points) == 0
    assert brightness(flat_face, points) == pytest.approx(90, abs=1)
