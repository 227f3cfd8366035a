"""Plain JAX functions: what their layers are called, and what cannot be told of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

import xaimaps
from xaimaps.errors import LayerError

SHAPE = (6, 6, 2)
IMAGES = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)


def load(function, params=WEIGHTS, shape=SHAPE):
    return xaimaps.load(function, params=params, input_shape=shape)


def names(backend):
    return [layer.name for layer in backend.layers()]


def scoped(weights, x):
    with jax.named_scope("stem"):
        x = jnp.tanh(x @ weights)
    with jax.named_scope("head"):
        return x.mean(axis=(1, 2))


def nested(weights, x):
    with jax.named_scope("outer"):
        x = jax.jit(scoped_block)(weights, x)
    return x.mean(axis=(1, 2))


def scoped_block(weights, x):
    with jax.named_scope("inner"):
        return jnp.sin(x @ weights)


def named(weights, x):
    x = checkpoint_name(x @ weights, "product")
    x = checkpoint_name(jnp.tanh(x), "bounded")
    return (2 * x).mean(axis=(1, 2))


def plain(weights, x):
    return jnp.tanh(jnp.tanh(x @ weights)).mean(axis=(1, 2))


def twice(weights, x):
    for _ in range(2):
        with jax.named_scope("block"):
            x = jnp.tanh(x)
    return (x @ weights).mean(axis=(1, 2))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (scoped, {"stem", "head"}),
        (nested, {"outer/inner"}),
        (named, {"product", "bounded"}),
        (plain, {"dot_general", "tanh", "tanh_1"}),
        (twice, {"block/tanh", "block", "dot_general"}),
    ],
)
def test_names(function, expected):
    backend = load(function)
    assert expected <= set(names(backend))
    assert len(set(names(backend))) == len(names(backend))
    assert load(jax.jit(function)).find_layer(min(expected)).name == min(expected)


@pytest.mark.parametrize(
    ("function", "default"),
    [(scoped, "stem"), (nested, "outer/inner"), (plain, "tanh_1"), (twice, "dot_general")],
)
def test_the_default_layer_is_the_last_with_places(function, default):
    layer = load(function).default_layer()
    assert (layer.name, layer.shape[1:3]) == (default, (6, 6))


@pytest.mark.parametrize(
    ("function", "layer", "value"),
    [
        (scoped, "stem", lambda x: np.tanh(x @ WEIGHTS)),
        (nested, "outer/inner", lambda x: np.sin(x @ WEIGHTS)),
        (named, "product", lambda x: x @ WEIGHTS),
        (named, "bounded", lambda x: np.tanh(x @ WEIGHTS)),
        (twice, "block/tanh", np.tanh),
        (twice, "block", lambda x: np.tanh(np.tanh(x))),
    ],
)
def test_a_layer_is_the_value_of_its_name(function, layer, value):
    backend = load(function)
    outputs, kept = backend.forward_with_activations(jnp.asarray(IMAGES), (layer,))
    np.testing.assert_allclose(kept[layer], value(IMAGES), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs, function(WEIGHTS, IMAGES), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("function", [scoped, nested, named, plain, twice])
def test_a_function_is_run_as_it_is(function):
    outputs = load(function).forward(jnp.asarray(IMAGES))
    np.testing.assert_allclose(outputs, function(WEIGHTS, IMAGES), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", ["product", "bounded"])
def test_maps_are_the_formula(layer):
    found = xaimaps.attribute(load(named), IMAGES, target=1, layer=layer, relu=False)
    product = IMAGES @ WEIGHTS
    slope = 2 / 36 * np.ones_like(product)
    if layer == "product":
        slope = slope * (1 - np.tanh(product) ** 2)
    value = product if layer == "product" else np.tanh(product)
    alpha = slope.mean(axis=(1, 2)) * [0, 1, 0, 0]
    expected = np.einsum("nc,nhwc->nhw", alpha, value)
    np.testing.assert_allclose(found.maps, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("params", "function"),
    [
        ({"a": {"b": [WEIGHTS]}}, lambda p, x: plain(p["a"]["b"][0], x)),
        ((WEIGHTS, None), lambda p, x: plain(p[0], x)),
        ((), lambda p, x: plain(WEIGHTS, x)),
    ],
)
def test_parameters_are_any_pytree(params, function):
    found = xaimaps.attribute(load(function, params), IMAGES, "saliency", target=0)
    expected = xaimaps.attribute(load(plain), IMAGES, "saliency", target=0)
    np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-5)


def test_sizes_that_vary():
    backend = load(scoped, shape=(None, None, 2))
    assert xaimaps.attribute(backend, IMAGES, target=0).maps.shape == (3, 6, 6)
    assert xaimaps.attribute(backend, IMAGES[:, :4], target=0).maps.shape == (3, 4, 6)


def test_without_any_map_gradients_remain():
    backend = load(lambda p, x: x.reshape(len(x), -1) @ p, np.ones((72, 3), np.float32))
    with pytest.raises(LayerError, match="no value of this function has a spatial extent"):
        xaimaps.attribute(backend, IMAGES)
    np.testing.assert_array_equal(xaimaps.attribute(backend, IMAGES, "saliency").maps, 1)


def test_a_head_cannot_be_told():
    with pytest.raises(LayerError, match="plain JAX function does not tell; use grad_cam"):
        xaimaps.attribute(load(scoped), IMAGES, "cam")


def test_unknown_layers_offer_the_nearest():
    with pytest.raises(LayerError, match="got 'stam'; nearest: 'stem'"):
        xaimaps.attribute(load(scoped), IMAGES, layer="stam")
    with pytest.raises(LayerError, match=r"'head' has shape \(None, 4\).*such as 'stem'"):
        xaimaps.attribute(load(scoped), IMAGES, layer="head")
