"""Shapley-CAM where the curvature is known: none, and in closed form."""

import numpy as np
import pytest

import xaimaps
from xaimaps.targets import as_target, several
from xaimaps.testing import ReferenceBackend, pooled_network


@pytest.fixture
def network():
    return pooled_network()


@pytest.fixture
def images():
    return np.random.default_rng(4).normal(size=(2, 9, 9, 3)).astype(np.float32)


def in_closed_form(network, images, target):
    """At the pooled layer: y = W' mean(a) + b, and the score is 2 y_c - logsumexp(y).

    With the softmax p, the gradient of channel k is (2 W_kc - sum_j p_j W_kj) / Z, and the Hessian
    along a is -W (diag p - p p') W' mean(a) / Z.
    """
    dense = network.layers["fc"]
    activations = network.values(images)["relu2"].astype(np.float64)
    pooled, size = activations.mean(axis=(1, 2)), activations[0, ..., 0].size
    y = pooled @ dense.weights + dense.bias
    p = np.exp(y - y.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    slope = 2 * dense.weights[:, target].T - p @ dense.weights.T
    along = pooled @ dense.weights
    moved = p * along - p * (p * along).sum(1, keepdims=True)
    weights = (slope + 0.5 * moved @ dense.weights.T) / size
    return np.maximum(np.einsum("nk,nijk->nij", weights, activations), 0)


def test_the_pooled_layer_in_closed_form(network, images):
    found = xaimaps.attribute(ReferenceBackend(network), images, "shapley_cam", target=[3, 1])
    expected = in_closed_form(network, images, [3, 1])
    assert expected.max() > 1e-3
    np.testing.assert_allclose(found.maps, expected, rtol=1e-4, atol=1e-5 * expected.max())


@pytest.mark.parametrize("layer", ["conv1", "relu2"])
def test_a_logit_behind_relus_has_no_curvature(network, images, layer):
    backend = ReferenceBackend(network)
    options = {"target": several(3, 1), "layer": layer}
    found = xaimaps.attribute(backend, images, "shapley_cam", residual=False, **options)
    expected = xaimaps.attribute(backend, images, "grad_cam", **options)
    np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-5, atol=1e-7)


def test_a_function_of_the_outputs_is_a_target(network, images):
    """The sum of the squared logits has the Hessian 2 W W' / Z^2 by the pooled layer."""
    backend, dense = ReferenceBackend(network), network.layers["fc"]
    goal = as_target(lambda outputs: (outputs**2).sum(axis=-1), 2)
    found = xaimaps.attribute(
        backend, images, "shapley_cam", target=goal, residual=False, relu=False
    )
    activations = network.values(images)["relu2"]
    pooled = activations.mean(axis=(1, 2))
    change = 2 * (pooled @ dense.weights + dense.bias) - pooled @ dense.weights
    weights = change @ dense.weights.T / activations[0, ..., 0].size
    expected = np.einsum("nk,nijk->nij", weights, activations)
    np.testing.assert_allclose(found.maps, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", ["output:1", "1 vs 2"])
def test_scores_that_are_no_classes_have_no_log_softmax(pooled, images, target):
    found = xaimaps.attribute(pooled, images, "shapley_cam", target=target)
    plain = xaimaps.attribute(pooled, images, "shapley_cam", target=target, residual=False)
    np.testing.assert_array_equal(found.maps, plain.maps)
