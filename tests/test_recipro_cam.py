"""Recipro-CAM against the paper's definition, one position at a time."""

import numpy as np
import pytest

import xaimaps
from xaimaps.errors import MethodError
from xaimaps.testing import ReferenceBackend, pooled_network

KERNEL = np.outer([1, 2, 1], [1, 2, 1]) / 16


def masks_of(height, width, gaussian):
    """Each position's mask, cut out of a larger one with a kernel in it."""
    kernel = KERNEL if gaussian else np.float64([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    for i, j in np.ndindex(height, width):
        large = np.zeros((height + 2, width + 2))
        large[i : i + 3, j : j + 3] = kernel
        yield large[1:-1, 1:-1]


def softmax(outputs):
    powers = np.exp(outputs.astype(np.float64))
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("layer", ["conv1", "relu2"])
@pytest.mark.parametrize("gaussian", [True, False])
@pytest.mark.parametrize("probability", [True, False])
def test_each_position_is_the_score_of_its_mask(layer, gaussian, probability):
    backend = ReferenceBackend(pooled_network())
    images = np.random.default_rng(4).normal(size=(2, 9, 9, 3)).astype(np.float32)
    _, kept = backend.forward_with_activations(images, (layer,))
    height, width = kept[layer].shape[1:3]
    names = list(backend.chain.layers)
    behind = [backend.chain.layers[name] for name in names[names.index(layer) + 1 :]]
    expected = []
    for mask in masks_of(height, width, gaussian):
        value = kept[layer] * mask[..., None].astype(np.float32)
        for step in behind:
            value = step(value)
        outputs = softmax(value) if probability else value
        expected.append(outputs[[0, 1], [3, 1]])
    expected = np.stack(expected, axis=-1).reshape(2, height, width)
    options = {"layer": layer, "gaussian": gaussian, "probability": probability}
    for memory in (512, 1e-6):
        found = xaimaps.attribute(
            backend, images, "recipro_cam", target=[3, 1], memory=memory, **options
        )
        np.testing.assert_allclose(found.maps, expected, rtol=1e-5, atol=1e-6)


def test_memory_must_be_a_number(pooled, images):
    with pytest.raises(MethodError, match="`memory`"):
        xaimaps.attribute(pooled, images, "recipro_cam", memory=0)
