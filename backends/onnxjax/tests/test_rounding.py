"""Divisions that agree with numpy in the last bit, also where the device's own does not."""

import jax
import numpy as np
import pytest
from onnxjax._ops.rounding import exact_quotient, missing

RNG = np.random.default_rng(0)
X = (RNG.normal(size=100_000) * 10.0 ** RNG.uniform(-6, 6, 100_000)).astype(np.float32)
D = (RNG.normal(size=100_000) * 10.0 ** RNG.uniform(-6, 6, 100_000)).astype(np.float32)
TIES = (np.arange(-20_000, 20_000) + 0.5).astype(np.float32)


@pytest.mark.parametrize("ulps", [-2, -1, 0, 1, 2])
def test_a_quotient_that_is_a_little_off_is_corrected(ulps):
    near = X / D
    for _ in range(abs(ulps)):
        near = np.nextafter(near, np.float32(np.copysign(np.inf, ulps)))
    np.testing.assert_array_equal(near + jax.jit(missing)(near, X, D), X / D)


@pytest.mark.parametrize("ulps", [-1, 1])
@pytest.mark.parametrize("scale", [0.1, 0.0078125, 1 / 255, 3.7])
def test_ties_stay_ties(scale, ulps):
    """A product that rounds to a tie when it is divided again is rounded to the even integer."""
    scale = np.float32(scale)
    x = TIES * scale
    near = np.nextafter(x / scale, np.float32(np.copysign(np.inf, ulps)))
    found = near + missing(near, x, np.full_like(x, scale))
    np.testing.assert_array_equal(np.rint(found), np.rint(x / scale))


def test_quotients_in_programs_are_those_of_numpy():
    np.testing.assert_array_equal(jax.jit(exact_quotient)(X, D), X / D)
    np.testing.assert_array_equal(jax.jit(exact_quotient)(X, D[:1]), X / D[:1])
    np.testing.assert_array_equal(jax.jit(lambda x: exact_quotient(x, D[0]))(X), X / D[0])


def test_what_is_not_finite_stays_as_it_is():
    x = np.array([1, -1, 0, np.inf, np.nan, 1, 3e38], np.float32)
    d = np.array([0, 0, 0, 2, 2, np.inf, 1e-3], np.float32)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(jax.jit(exact_quotient)(x, d), x / d)


def test_the_derivative_is_that_of_the_division():
    slope = jax.grad(lambda x: exact_quotient(x, np.float32(4)).sum())(X[:10])
    np.testing.assert_array_equal(slope, np.full(10, 0.25))
