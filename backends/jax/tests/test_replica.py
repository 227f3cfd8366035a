"""Copies of JAX functions with other weights."""

import jax.numpy as jnp
import numpy as np

import xaimaps


def two_layers(params, images):
    first, second = params["layers"]
    pooled = (images - params["mean"]).mean(axis=(1, 2)) @ first["w"] + first["b"]
    return jnp.maximum(pooled, 0) @ second["w"]


def test_layers_of_a_function_and_their_weights():
    draw = np.random.default_rng(0).normal
    first = {"w": draw(size=(3, 6)), "b": draw(size=6)}
    params = {"layers": [first, {"w": draw(size=(6, 4))}], "mean": draw(size=3)}
    model = xaimaps.load(two_layers, params, input_shape=(5, 5, 3))
    images = model.asarray(draw(size=(2, 5, 5, 3)).astype(np.float32))
    before = np.asarray(model.forward(images))
    replica = model.replica()
    shapes = [[one.shape for one in own.values()] for own in replica.layers.values()]
    assert shapes == [[(3, 6), (6,)], [(6, 4)]]  # the mean of the images is of no layer
    ((name, weights),) = list(replica.layers.values())[-1].items()
    replica.assign({name: weights[::-1]})
    changed = {**params, "layers": [first, {"w": params["layers"][1]["w"][::-1]}]}
    expected = two_layers(changed, np.asarray(images))
    np.testing.assert_allclose(replica.backend.forward(images), expected, rtol=1e-5)
    np.testing.assert_array_equal(model.forward(images), before)
