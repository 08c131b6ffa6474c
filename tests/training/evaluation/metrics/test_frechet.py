"""The Fréchet distance against scipy's matrix root and closed forms."""

import numpy as np
import pytest
import scipy.linalg

from training.evaluation.metrics.frechet import frechet_distance


def by_matrix_root(ours: np.ndarray, true: np.ndarray) -> float:
    """The formula as it is printed."""
    covariances = [np.cov(samples, rowvar=False) for samples in (ours, true)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    return float(
        np.square(ours.mean(axis=0) - true.mean(axis=0)).sum()
        + np.trace(covariances[0])
        + np.trace(covariances[1])
        - 2 * np.trace(root)
    )


def test_distance_is_the_printed_formulas() -> None:
    random = np.random.default_rng(0)
    mix = random.normal(size=(6, 6))
    ours, true = random.normal(size=(50, 6)) @ mix, random.normal(1.0, 2.0, size=(80, 6))
    assert frechet_distance(ours, true) == pytest.approx(by_matrix_root(ours, true), rel=1e-9)


@pytest.mark.parametrize("counts", [(4, 5), (4, 90), (90, 4)])
def test_fewer_samples_than_features_work_too(counts: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    ours, true = (random.normal(size=(count, 12)) for count in counts)
    # The product is singular, and its root by scipy holds to few digits only.
    assert frechet_distance(ours, true) == pytest.approx(by_matrix_root(ours, true), rel=1e-4)


def test_distance_of_one_dimension_by_hand() -> None:
    """Means 0 and 3, deviations sqrt(2) and sqrt(8): 9 + 2 + 8 - 2 * 4."""
    ours, true = np.array([[-1.0], [1.0]]), np.array([[1.0], [5.0]])
    assert frechet_distance(ours, true) == pytest.approx(11.0)


def test_equal_sets_have_no_distance_and_one_sample_is_refused() -> None:
    samples = np.random.default_rng(2).normal(size=(10, 4)).astype(np.float32)
    assert frechet_distance(samples, samples[::-1]) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="got 1 and 10"):
        frechet_distance(samples[:1], samples)
