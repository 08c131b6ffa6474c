import numpy as np
import scipy.ndimage

from pipelines.synthetic.motion.curves import ease, ease_through, limit_speed, pulse, random_drift, smooth, soft_limit


def test_ease_rests_at_both_ends() -> None:
    np.testing.assert_allclose(ease(np.array([-1.0, 0.0, 0.5, 1.0, 2.0])), [0, 0, 0.5, 1, 1], atol=1e-12)
    np.testing.assert_allclose(ease(np.array([1 / 3])), 0.25)


def test_pulse_rises_holds_and_falls() -> None:
    shape = pulse(np.array([0.9, 1.0, 1.1, 1.2, 1.4, 1.6, 1.8, 2.0]), 1.0, 0.2, 0.2, 0.4)
    np.testing.assert_allclose(shape, [0, 0, 0.5, 1, 1, 0.5, 0, 0], atol=1e-12)


def test_curve_goes_through_its_knots_and_stays_outside() -> None:
    curve = ease_through(np.array([0.0, 1.0, 1.5, 2.0, 3.0]), [1.0, 2.0], np.array([[0.0, 4.0], [2.0, 0.0]]))
    np.testing.assert_allclose(curve, [[0, 4], [0, 4], [1, 2], [2, 0], [2, 0]], atol=1e-12)
    np.testing.assert_allclose(ease_through(np.array([0.0, 1.0]), [0.5], np.array([[3.0]])), [[3], [3]])


def test_smooth_is_scipys_gaussian() -> None:
    values = np.random.default_rng(0).standard_normal((40, 3))
    expected = scipy.ndimage.gaussian_filter1d(values, 1.5, axis=0, mode="nearest", radius=4)
    np.testing.assert_allclose(smooth(values, 1.5), expected, atol=1e-12)
    np.testing.assert_array_equal(smooth(values, 0.0), values)
    assert smooth(values[:1], 1.5).shape == (1, 3)


def test_wander_has_the_variance_and_slowness_that_it_says() -> None:
    values = random_drift(np.random.default_rng(1), 20_000, 2, 10.0)
    np.testing.assert_allclose(values.std(axis=0), 1, atol=0.1)
    # Smoothed noise correlates as exp(-lag^2 / 4 sigma^2).
    lagged = (values[20:] * values[:-20]).mean(axis=0) / values.var(axis=0)
    np.testing.assert_allclose(lagged, np.exp(-1), atol=0.1)


def test_softened_leaves_the_middle_and_never_passes_the_limit() -> None:
    np.testing.assert_array_equal(soft_limit(np.array([-6.0, 0.0, 5.9]), 10.0), [-6, 0, 5.9])
    bent = soft_limit(np.linspace(6, 1000, 200), 10.0)
    assert (np.diff(bent) >= 0).all()
    assert bent.max() <= 10
    np.testing.assert_allclose(soft_limit(np.array([[1e3, -1e3]]), np.array([40.0, 20.0])), [[40, -20]])


def test_slowed_bounds_every_step_and_arrives_late() -> None:
    jump = np.array([[0.0, 0.0], [1.0, 0.1], [1.0, 0.2], [1.0, 0.2]])
    np.testing.assert_allclose(limit_speed(jump, np.array([0.4, 0.4])), [[0, 0], [0.4, 0.1], [0.8, 0.2], [1, 0.2]])
    np.testing.assert_array_equal(limit_speed(jump, np.array([1.0, 1.0])), jump)
