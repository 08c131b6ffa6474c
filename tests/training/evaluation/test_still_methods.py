from collections.abc import Callable

import numpy as np

from training.evaluation.methods import Shots
from training.evaluation.metrics.faces import Faces
from training.evaluation.still_methods import MeanFrame, NearestFrame, StaticPortrait


def test_a_still_method_shows_the_first_the_nearest_or_the_mean_frame(
    face: Callable[..., np.ndarray], draw: Callable[..., np.ndarray]
) -> None:
    landmarks = np.stack([face(yaw=yaw) for yaw in (-20.0, 0.0, 20.0)])
    images = np.stack([draw(points, 32, 32, shade) for points, shade in zip(landmarks, (120, 160, 200), strict=True)])
    shots = Shots(Faces(images, landmarks), 32)
    targets = np.stack([face(yaw=17.0), face(yaw=-14.0), face(yaw=-1.0)])
    np.testing.assert_array_equal(StaticPortrait().draw(shots, targets), images[[0, 0, 0]])
    np.testing.assert_array_equal(NearestFrame().draw(shots, targets), images[[2, 0, 1]])
    mean = MeanFrame().draw(shots, targets)
    np.testing.assert_allclose(mean[2], images.astype(float).mean(axis=0), atol=0.51)
