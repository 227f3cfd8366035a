"""Layer integrated gradients in closed form, on a network that is linear between its ReLUs."""

import numpy as np
import pytest

import xaimaps
from xaimaps.errors import MethodError
from xaimaps.targets import several
from xaimaps.testing import ReferenceBackend, pooled_network

METHOD = "layer_integrated_gradients"


@pytest.fixture
def backend():
    return ReferenceBackend(pooled_network())


@pytest.fixture
def images():
    return np.random.default_rng(4).normal(size=(2, 9, 9, 3)).astype(np.float32)


def windows(values, size=3):
    """Every window of a valid convolution, `(N, h, w, C, size, size)`."""
    return np.lib.stride_tricks.sliding_window_view(values, (size, size), axis=(1, 2))


def in_closed_form(backend, images, start, target):
    """At relu1: a unit of relu2 passes the gradient on the part of the path where it is positive.

    Its input is linear along the path, from s to e. It is positive for the fraction
    (relu(e) - relu(s)) / (e - s) of the path.
    """
    conv, dense = backend.chain.layers["conv2"], backend.chain.layers["fc"]
    ends = [backend.values(x)["relu1"].astype(np.float64) for x in (start, images)]
    s, e = (np.einsum("nijcuv,uvck->nijk", windows(x), conv.kernel) + conv.bias for x in ends)
    passed = (np.maximum(e, 0) - np.maximum(s, 0)) / (e - s)
    height, width = passed.shape[1:3]
    pulled = passed * dense.weights[:, target].T[:, None, None, :] / (height * width)
    way = ends[1] - ends[0]
    gradients = np.zeros_like(way)
    for u, v in np.ndindex(3, 3):
        gradients[:, u : u + height, v : v + width] += pulled @ conv.kernel[u, v].T
    return way * gradients


def test_behind_a_relu_in_closed_form(backend, images):
    start = np.random.default_rng(5).normal(size=(9, 9, 3)).astype(np.float32)
    found = xaimaps.attribute(
        backend, images, METHOD, target=[3, 1], layer="relu1", baseline=start, n_steps=400,
        rule="riemann_middle", reduce=None,
    )  # fmt: skip
    expected = in_closed_form(backend, images, np.stack([start] * 2), [3, 1])
    np.testing.assert_allclose(found.maps, expected, atol=3e-3 * np.abs(expected).max())
    scores = [backend.forward(x)[[0, 1], [3, 1]] for x in (images, np.stack([start] * 2))]
    np.testing.assert_allclose(expected.sum((1, 2, 3)), scores[0] - scores[1], rtol=1e-4)


def test_before_a_linear_end_one_step_is_exact(backend, images):
    """Behind relu2 are the mean and the dense layer, so that the gradient is constant."""
    starts = np.random.default_rng(5).normal(size=(3, 9, 9, 3)).astype(np.float32)
    options = {"target": several(3, 1), "baseline": starts, "n_steps": 1}
    found = xaimaps.attribute(backend, images, METHOD, **options)
    end = backend.values(images)["relu2"]
    way = end - backend.values(starts)["relu2"].mean(axis=0)
    weights = backend.chain.layers["fc"].weights[:, [3, 1]].T[:, None, None]
    expected = (way[:, None] * weights).sum(-1) / end[0, ..., 0].size
    np.testing.assert_allclose(found.maps, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.details["completeness_delta"], 0, atol=1e-5)


def test_the_delta_is_the_error_of_the_quadrature(backend, images):
    options = {"target": 1, "layer": "conv1", "baseline": "zeros"}
    found = xaimaps.attribute(backend, images, METHOD, n_steps=1, **options)
    y, zero = (backend.forward(x)[:, 1] for x in (images, np.zeros_like(images)))
    delta = found.maps.sum(axis=(1, 2)) - (y - zero)
    assert np.abs(delta).max() > 1e-3
    np.testing.assert_allclose(found.details["completeness_delta"], delta, atol=1e-5)


def test_noise_is_no_baseline(backend, images):
    with pytest.raises(MethodError, match="must not be 'noise'"):
        xaimaps.attribute(backend, images, METHOD, target=0, baseline="noise")
