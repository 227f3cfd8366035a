"""Plain JAX functions: what their layers are called, and what cannot be told of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

import xaimaps
from xaimaps.errors import ArrayInputError, LayerError, UnsupportedModelError
from xaimaps.targets import as_target

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


def flat(params, images):
    return images.reshape(len(images), -1) @ params


def test_a_size_at_which_the_function_fails_is_not_its_size():
    params = np.ones((28 * 28 * 2, 3), np.float32)
    found = xaimaps.attribute(
        load(flat, params, (None, None, 2)), np.ones((1, 28, 28, 2)), "saliency"
    )
    np.testing.assert_array_equal(found.maps, 1)
    with pytest.raises(UnsupportedModelError, match=r"(?s)TypeError.*check `params`, `input_sh"):
        load(flat, params[1:], (28, 28, 2))
    with pytest.raises(UnsupportedModelError, match="runs at one size only"):
        load(flat, params[1:], (None, None, 2))


def test_without_any_map_gradients_remain():
    backend = load(lambda p, x: x.reshape(len(x), -1) @ p, np.ones((72, 3), np.float32))
    with pytest.raises(LayerError, match="no layer of this model has a spatial extent"):
        xaimaps.attribute(backend, IMAGES)
    np.testing.assert_array_equal(xaimaps.attribute(backend, IMAGES, "saliency").maps, 1)


def test_pooled_channels_are_the_classes():
    found = xaimaps.attribute(load(scoped), IMAGES, "cam", target=1)
    np.testing.assert_allclose(found.maps, np.tanh(IMAGES @ WEIGHTS)[..., 1], rtol=1e-5, atol=1e-6)


def test_unknown_layers_offer_the_nearest():
    with pytest.raises(LayerError, match="got 'stam'; nearest: 'stem'"):
        xaimaps.attribute(load(scoped), IMAGES, layer="stam")
    with pytest.raises(LayerError, match=r"'head' has shape \(None, 4\).*such as 'stem'"):
        xaimaps.attribute(load(scoped), IMAGES, layer="head")


def pooled_classifier(params, x, act=jax.nn.relu):
    dimensions = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x, params["kernel"], (1, 1), "SAME", None, None, dimensions)
    return act(y + params["shift"]).mean((1, 2)) @ params["dense"] + params["bias"]


CLASSIFIER = {
    name: np.random.default_rng(5).normal(size=shape).astype(np.float32)
    for name, shape in [("kernel", (3, 3, 2, 6)), ("shift", 6), ("dense", (6, 4)), ("bias", 4)]
}


@pytest.mark.parametrize(
    "act",
    [
        jax.nn.relu,
        lambda y: jnp.maximum(y, 0),
        lambda y: jax.lax.max(y, 0.0),
        lambda y: jnp.clip(y, 0, 6),
        lambda y: jax.nn.softmax(y, -1),
        lambda y: jax.nn.dot_product_attention(y, y, y),
    ],
    ids=["relu", "maximum", "lax.max", "clip", "softmax", "attention"],
)
def test_activations_inside_a_function(act):
    model = load(lambda p, x: pooled_classifier(p, x, act), CLASSIFIER)
    found = xaimaps.attribute(model, IMAGES, "input_x_gradient", target=0, reduce=None).maps

    def scores(x):
        return pooled_classifier(CLASSIFIER, x, act)[:, 0].sum()

    expected = IMAGES * jax.grad(scores)(jnp.asarray(IMAGES))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(xaimaps.attribute(model, IMAGES, "grad_cam", target=0, relu=False).maps).max() > 0


ENDINGS = {
    "softmax": jax.nn.softmax,
    "log_softmax": jax.nn.log_softmax,
    "sigmoid": jax.nn.sigmoid,
    "by hand": lambda z: jnp.exp(z) / jnp.exp(z).sum(-1, keepdims=True),
    "shifted": lambda z: (e := jnp.exp(z - z.max(-1, keepdims=True))) / e.sum(-1, keepdims=True),
}


@pytest.mark.parametrize("end", ENDINGS)
def test_a_final_activation_is_bypassed_and_said(end):
    model = load(lambda p, x: ENDINGS[end](pooled_classifier(p, x)), CLASSIFIER)
    logits = load(pooled_classifier, CLASSIFIER)
    np.testing.assert_allclose(model.forward(IMAGES), logits.forward(IMAGES), rtol=1e-5, atol=1e-5)
    expected = xaimaps.attribute(logits, IMAGES, "saliency", target=1).maps
    found = xaimaps.attribute(model, IMAGES, "saliency", target=1)
    np.testing.assert_allclose(found.maps, expected, rtol=1e-4, atol=1e-6)
    function = "sigmoid" if end == "sigmoid" else "softmax"
    assert model.info.ending == function
    assert any("scores are taken before the final" in note for note in model.info.notes)


def test_what_only_looks_like_a_softmax_is_kept():
    other = lambda z: jnp.exp(z) / jnp.exp(2 * z).sum(-1, keepdims=True)  # noqa: E731
    model = load(lambda p, x: other(pooled_classifier(p, x)), CLASSIFIER)
    expected = other(pooled_classifier(CLASSIFIER, IMAGES))
    np.testing.assert_allclose(model.forward(IMAGES), expected, rtol=1e-4)


def test_cam_takes_the_dense_weights():
    found = xaimaps.attribute(load(pooled_classifier, CLASSIFIER), IMAGES, "cam", target=2).maps
    features = pooled_classifier(
        {**CLASSIFIER, "dense": np.eye(6), "bias": 0}, IMAGES, lambda y: jax.nn.relu(y) * 36
    )
    scores = features @ CLASSIFIER["dense"][:, 2]
    np.testing.assert_allclose(found.sum((1, 2)), scores, rtol=1e-4)


def test_the_terms_of_fullgrad_add_up_to_the_scores():
    model = load(pooled_classifier, CLASSIFIER)
    target = as_target(np.array([0, 1, 3]), len(IMAGES))
    gradients, terms = model.biases(jnp.asarray(IMAGES), target)
    parts = [gradients.activations * gradients.gradients, *terms]
    total = sum(np.asarray(part).reshape(len(IMAGES), -1).sum(1) for part in parts)
    np.testing.assert_allclose(total, gradients.scores, rtol=1e-4)


def transformer(params, x, act=jax.nn.gelu, behind=lambda tokens: tokens):
    """Patches and a class token through one attention; the class token makes the scores."""
    patches = jax.lax.conv_general_dilated(
        x, params["embed"], (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    tokens = patches.reshape(len(x), -1, 8)
    class_token = jnp.broadcast_to(params["token"], (len(x), 1, 8))
    tokens = jnp.concatenate([class_token, tokens], axis=1) + params["positions"]
    with jax.named_scope("block"):
        heads = (tokens @ params["qkv"]).reshape(len(x), -1, 3, 2, 4)
        mixed = jax.nn.dot_product_attention(heads[:, :, 0], heads[:, :, 1], heads[:, :, 2])
        tokens = tokens + mixed.reshape(len(x), -1, 8)
    with jax.named_scope("mlp"):
        tokens = tokens + act(tokens @ params["mlp"]) @ params["mlp"].T
    return behind(tokens)[:, 0] @ params["head"]


TRANSFORMER = {
    name: np.random.default_rng(9).normal(size=shape).astype(np.float32) / 2
    for name, shape in [
        ("embed", (2, 2, 2, 8)),
        ("token", (1, 8)),
        ("positions", (10, 8)),
        ("qkv", (8, 24)),
        ("mlp", (8, 16)),
        ("head", (8, 4)),
    ]
}


def constrained(x):
    """Say where an activation is computed, which changes no value."""
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.lax.with_sharding_constraint(jax.nn.gelu(x), device)


@pytest.mark.parametrize(
    "act", [jax.nn.gelu, jax.nn.silu, jax.nn.elu, jax.nn.softplus, jnp.tanh, constrained]
)
def test_tokens_are_maps_and_the_default_layer_is_before_the_last_attention(act):
    model = load(lambda p, x: transformer(p, x, act), TRANSFORMER)
    layers = {layer.name: layer for layer in model.layers()}
    assert layers["block"].shape == (None, 3, 3, 8)
    default = model.default_layer()
    assert default.shape[1:3] == (3, 3)
    assert list(layers).index(default.name) < list(layers).index("block")
    found = xaimaps.attribute(model, IMAGES, "hires_cam", target=1)
    assert found.maps.shape == (3, 3, 3)
    assert np.abs(found.maps).max() > 0


@pytest.mark.parametrize(("width", "is_read"), [(1, False), (3, True)])
def test_a_convolution_behind_the_last_attention_may_mix_tokens_again(width, is_read):
    kernel = np.random.default_rng(3).normal(size=(width, 8, 8)).astype(np.float32)

    def convolved(tokens):
        numbers = ("NWC", "WIO", "NWC")
        return jax.lax.conv_general_dilated(tokens, kernel, (1,), "SAME", dimension_numbers=numbers)

    model = load(lambda p, x: transformer(p, x, behind=convolved), TRANSFORMER)
    names = [layer.name for layer in model.layers()]
    assert (names.index(model.default_layer().name) >= names.index("block")) == is_read
    behind = model.grad(jnp.asarray(IMAGES), as_target(1, 3), wrt="mlp").gradients
    assert np.any(behind) == is_read


def best_first(tokens):
    return jnp.argsort(-tokens.mean(axis=-1), axis=1)


@pytest.mark.parametrize(
    "reordered",
    [
        lambda tokens: jnp.take_along_axis(tokens, best_first(tokens)[..., None], axis=1),
        lambda tokens: jnp.take(tokens, best_first(tokens)[0], axis=1),
        lambda tokens: jnp.sort(tokens, axis=1),
        lambda tokens: jax.lax.top_k(tokens, 36, axis=1)[0],
    ],
)
def test_positions_in_the_order_of_their_scores_are_no_map(reordered):
    def function(weights, x):
        tokens = jnp.tanh(x @ weights).reshape(len(x), 36, 4)
        return jnp.tanh(reordered(tokens) * jnp.arange(36.0)[:, None]).mean(axis=1)

    maps = [layer.name for layer in load(function).layers() if len(layer.shape) == 4]
    assert maps == ["dot_general", "tanh"]


def test_a_cut_keeps_the_class_token():
    model = load(transformer, TRANSFORMER)
    value, rest = model.split(jnp.asarray(IMAGES), "block")
    assert value.shape == (3, 3, 3, 8)
    np.testing.assert_allclose(rest(value), transformer(TRANSFORMER, IMAGES), rtol=1e-4, atol=1e-5)


def test_a_fit_needs_a_preprocessing():
    with pytest.raises(ArrayInputError, match="`fit` needs a known preprocessing, got 'pad'"):
        xaimaps.load(lambda params, images: images, params={}, input_shape=(8, 8, 3), fit="pad")


def with_row(weights, x, scale, shift):
    """Scale and shift the outputs of each image by its own values."""
    return jnp.tanh(x).mean((-3, -2)) @ weights * scale[..., None] + shift


@pytest.mark.parametrize("layout", ["NHWC", "HWC"])
def test_other_arguments_have_the_same_value_for_each_image(layout):
    model = xaimaps.load(
        with_row,
        params=WEIGHTS,
        input_shape=SHAPE,
        layout=layout,
        inputs={"scale": 2.0, "shift": [1, 2, 3, 4]},
    )
    expected = np.tanh(IMAGES).mean((1, 2)) @ WEIGHTS * 2 + [1, 2, 3, 4]
    np.testing.assert_allclose(model.forward(IMAGES), expected, rtol=1e-5)
    found = model.grad(jnp.asarray(IMAGES), as_target(1, 3)).gradients
    slope = 2 * (1 - np.tanh(IMAGES) ** 2) * WEIGHTS[:, 1] / 36
    np.testing.assert_allclose(found, slope, rtol=1e-4)


@pytest.mark.parametrize("inputs", [{}, {"scale": 1}, {"scale": 1, "shift": 0, "more": 1}])
def test_arguments_that_a_function_lacks_or_does_not_have(inputs):
    with pytest.raises(UnsupportedModelError, match=r"argument.*check .*`inputs`"):
        xaimaps.load(with_row, params=WEIGHTS, input_shape=SHAPE, inputs=inputs)
