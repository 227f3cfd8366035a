"""Copies of Keras models with other weights."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

import xaimaps  # noqa: E402


def test_a_copy_has_its_own_weights_and_the_model_keeps_its():
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.Conv2D(4, 3, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, name="fc"),
        ]
    )
    stored = [np.array(one) for one in model.get_weights()]
    images = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
    backend = xaimaps.load(model)
    replica = backend.replica()
    conv, dense = replica.layers.values()
    assert [one.shape for one in dense.values()] == [(4, 2), (2,)]
    assert len(conv) == 6  # kernel, bias, and the four of the normalisation
    outputs = replica.backend.forward(replica.backend.asarray(images))
    replica.assign({name: 0 * one for name, one in dense.items()})
    zeros = replica.backend.forward(replica.backend.asarray(images))
    np.testing.assert_allclose(outputs, model(images), atol=1e-5)
    np.testing.assert_array_equal(zeros, [[0, 0]])
    for before, after in zip(stored, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
