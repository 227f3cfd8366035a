"""Relevance propagation against zennit, AttnLRP's rules in PyTorch, and laws."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import xaimaps
from xaimaps.errors import MethodError, UnsupportedModelError
from xaimaps.propagation import Epsilon, Gamma, Pass, Rules, WSquare
from xaimaps.targets import as_target
from xaimaps.testing import ReferenceBackend, pooled_network

REFERENCES = Path(__file__).parent / "references"
OPTIONS = {"epsilon_gamma_box": {"low": -3.0, "high": 4.0}, "epsilon": {"epsilon": 0.25}}


@pytest.fixture(scope="module")
def stored():
    with np.load(REFERENCES / "lrp.npz") as values:
        return dict(values)


def composites(stored, network):
    return [key.split("/")[1] for key in stored if key.startswith(f"{network}/")]


COMPOSITES = [
    *("epsilon_plus", "epsilon_plus_flat", "epsilon_alpha2_beta1", "epsilon_alpha2_beta1_flat"),
    *("epsilon_gamma_box", "epsilon", "gamma", "z_plus", "alpha2_beta1"),
]


def relevance(backend, stored, method, **options):
    """The map of each image, of the stored target, with its channels."""
    images = stored["images"].astype(np.float32)
    target = int(stored["target"])
    return xaimaps.attribute(backend, images, method, target=target, reduce=None, **options).maps


def close(found, expected, tolerance=5e-5):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("composite", COMPOSITES)
def test_a_plain_network_has_zennits_relevance(stored, composite):
    backend = ReferenceBackend(pooled_network())
    found = relevance(backend, stored, "lrp", composite=composite, **OPTIONS.get(composite, {}))
    close(found, stored[f"pooled/{composite}"])


def test_excitation_backprop_is_z_plus(stored):
    found = relevance(ReferenceBackend(pooled_network()), stored, "excitation_backprop")
    close(found, stored["pooled/z_plus"])


# A network with batch normalisation, an addition, ReLU6 and max pooling, in three frameworks


def onnx_network(stored):
    """As an exporter writes it without folding."""
    names = [key for key in stored if key.startswith("res.")]
    weights = [numpy_helper.from_array(stored[name].astype(np.float32), name) for name in names]
    limits = [numpy_helper.from_array(np.float32(value), str(value)) for value in (0, 6)]

    def norm(value, name):
        parts = ("weight", "bias", "running_mean", "running_var")
        inputs = [value, *(f"res.{name}.{part}" for part in parts)]
        return helper.make_node("BatchNormalization", inputs, [name])

    def conv(value, name, *bias):
        inputs = [value, f"res.{name}.weight", *bias]
        return helper.make_node("Conv", inputs, [name], pads=[1, 1, 1, 1])

    def relu6(value, name):
        return helper.make_node("Clip", [value, "0", "6"], [name])

    nodes = [
        *(conv("images", "conv0"), norm("conv0", "bn0"), relu6("bn0", "relu0")),
        helper.make_node("MaxPool", ["relu0"], ["pool"], kernel_shape=[2, 2], strides=[2, 2]),
        *(conv("pool", "conv1"), norm("conv1", "bn1"), relu6("bn1", "relu1")),
        *(conv("relu1", "conv2", "res.conv2.bias"), norm("conv2", "bn2")),
        *(helper.make_node("Add", ["pool", "bn2"], ["sum"]), relu6("sum", "relu2")),
        helper.make_node("GlobalAveragePool", ["relu2"], ["gap"]),
        helper.make_node("Flatten", ["gap"], ["flat"]),
        helper.make_node("Gemm", ["flat", "res.fc.weight", "res.fc.bias"], ["y"], transB=1),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 9, 9])
    scores = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])
    graph = helper.make_graph(nodes, "res", [images], [scores], [*weights, *limits])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def jax_network(stored):
    jax = pytest.importorskip("jax")
    w = {key[4:]: stored[key].astype(np.float32) for key in stored if key.startswith("res.")}

    def conv(w, x, name):
        kernel, order = w[f"{name}.weight"], ("NHWC", "OIHW", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=order)

    def norm(w, x, name):
        mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        scale = w[f"{name}.weight"] * jax.lax.rsqrt(var + 1e-5)
        return x * scale + (w[f"{name}.bias"] - mean * scale)

    def network(w, x):
        x = jax.nn.relu6(norm(w, conv(w, x, "conv0"), "bn0"))
        x = jax.lax.reduce_window(x, -np.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        y = jax.nn.relu6(norm(w, conv(w, x, "conv1"), "bn1"))
        y = norm(w, conv(w, y, "conv2") + w["conv2.bias"], "bn2")
        return jax.nn.relu6(x + y).mean((1, 2)) @ w["fc.weight"].T + w["fc.bias"]

    return xaimaps.load(network, w, input_shape=(9, 9, 3))


def keras_network(stored):
    keras = pytest.importorskip("keras")
    pytest.importorskip("tensorflow")
    layers = keras.layers
    images = keras.Input((9, 9, 3))

    def conv(x, name, use_bias=False):
        return layers.Conv2D(4, 3, padding="same", use_bias=use_bias, name=name)(x)

    def norm(x, name):
        return layers.BatchNormalization(epsilon=1e-5, name=name)(x)

    x = layers.MaxPool2D()(layers.ReLU(6.0)(norm(conv(images, "conv0"), "bn0")))
    y = layers.ReLU(6.0)(norm(conv(x, "conv1"), "bn1"))
    y = norm(conv(y, "conv2", use_bias=True), "bn2")
    x = layers.GlobalAveragePooling2D()(layers.ReLU(6.0)(layers.Add()([x, y])))
    model = keras.Model(images, layers.Dense(5, name="fc")(x))
    for layer in model.layers:
        parts = ("weight", "bias", "running_mean", "running_var")
        weights = (stored.get(f"res.{layer.name}.{part}") for part in parts)
        orders = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
        layer.set_weights([w.transpose(orders[w.ndim]) for w in weights if w is not None])
    return xaimaps.load(model)


def onnx_in_jax(stored):
    pytest.importorskip("jax")
    return xaimaps.load(onnx_network(stored), backend="jax")


@pytest.fixture(scope="module", params=[onnx_in_jax, jax_network, keras_network])
def residual(request, stored):
    return request.param(stored)


@pytest.mark.parametrize("composite", COMPOSITES)
def test_batch_normalisation_and_additions_as_zennit(stored, residual, composite):
    options = OPTIONS.get(composite, {})
    found = relevance(residual, stored, "lrp", composite=composite, **options)
    close(found, stored[f"res/{composite}"])


def test_batch_normalisation_that_is_not_folded(stored, residual):
    options = {"composite": "epsilon_plus_flat", "fold": False}
    found = relevance(residual, stored, "lrp", **options)
    close(found, stored["res/epsilon_plus_flat/not_folded"])
    folded = relevance(residual, stored, "lrp", composite="epsilon_plus_flat")
    assert np.abs(found - folded).max() > 0.01 * np.abs(folded).max()


def test_squared_weights_of_the_first_layer(stored, residual):
    rules = Rules(conv=Epsilon(), dense=Epsilon(), first=WSquare(), function=Pass())
    images = residual.asarray(stored["images"].astype(np.float32))
    found = residual.grad(images, as_target(int(stored["target"]), 2, None), rules=rules)
    shares = np.asarray(found.gradients) / np.asarray(found.scores)[:, None, None, None]
    close(shares, stored["res/w_square"])


# Transformers


@pytest.mark.parametrize(("rule", "propagates"), [("attn_lrp", True), ("cp_lrp", False)])
def test_attention_has_the_rules_of_attn_lrp(stored, rule, propagates):
    pytest.importorskip("jax")
    backend = xaimaps.load(REFERENCES / "lrp_vit.onnx", backend="jax")
    found = relevance(backend, stored, "attn_lrp", propagate_attention=propagates)
    close(found, stored[f"vit/{rule}"])


# Laws


def test_a_network_without_biases_conserves_relevance(stored):
    """LRP-0 is input x gradient / score; without biases it sums to 1."""
    network = pooled_network()
    for layer in network.layers.values():
        if hasattr(layer, "bias"):
            layer.bias[:] = 0
    found = xaimaps.attribute(
        ReferenceBackend(network),
        stored["images"].astype(np.float32),
        "lrp",
        target=1,
        composite="epsilon",
        epsilon=0.0,
    )
    np.testing.assert_allclose(found.maps.sum((1, 2)), 1, rtol=1e-4)
    np.testing.assert_allclose(found.details["sum"], 1, rtol=1e-4)


def test_the_start_is_the_score_or_one(stored):
    backend = ReferenceBackend(pooled_network())
    one = relevance(backend, stored, "lrp")
    score = relevance(backend, stored, "lrp", start="score")
    outputs = backend.forward(stored["images"].astype(np.float32))[:, int(stored["target"])]
    np.testing.assert_allclose(score, one * outputs[:, None, None, None], rtol=1e-4, atol=1e-7)


def test_gamma_zero_is_lrp_zero(stored):
    backend, images = ReferenceBackend(pooled_network()), stored["images"].astype(np.float32)
    target = as_target(1, 2, None)
    plain = backend.grad(images, target, rules=Rules(conv=Epsilon(), dense=Epsilon()))
    gamma = backend.grad(images, target, rules=Rules(conv=Gamma(0.0), dense=Gamma(0.0)))
    close(gamma.gradients, plain.gradients)


# Functions of several operations


def test_an_activation_of_several_operations_passes_relevance_as_one(stored):
    """x sigmoid(x) as two operations, and SiLU in PyTorch: c = c_h h / z."""
    jax = pytest.importorskip("jax")
    draw = np.random.default_rng(2).normal
    kernel = draw(size=(3, 3, 3, 4)).astype(np.float32)
    dense = draw(size=(4, 5)).astype(np.float32)

    def convolved(x):
        order = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=order)

    def network(_, x):
        z = convolved(x)
        return (z * jax.lax.logistic(z)).mean((1, 2)) @ dense

    backend = xaimaps.load(network, {}, input_shape=(9, 9, 3))
    found = relevance(backend, stored, "attn_lrp", start="score")
    images = stored["images"].astype(np.float32)
    z = convolved(images)
    shares = jax.nn.sigmoid(z) * dense[:, int(stored["target"])] / 81
    (gradient,) = jax.vjp(convolved, images)[1](shares)
    close(found, images * gradient)


# Normalisations in all the ways in which they are written


def normalised(way):
    """Layer normalisation, without scale, in one of the ways of exporters and libraries."""
    jax = pytest.importorskip("jax")
    lax, jnp = jax.lax, jax.numpy

    def layer(x):
        mean = x.mean(-1, keepdims=True)
        variance = ((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5
        return {
            "quotient": lambda: (x - mean) / jnp.sqrt(variance),
            "rsqrt": lambda: (x - mean) * lax.rsqrt(variance),
            "inverse": lambda: (x - mean) * (1 / jnp.sqrt(variance)),
            "power": lambda: (x - mean) * variance**-0.5,
            "keras": lambda: x * lax.rsqrt(variance) - mean * lax.rsqrt(variance),
            "flax": lambda: (x - mean) * lax.rsqrt(jnp.maximum(second(x, mean), 0) + 1e-5),
        }[way]()

    def second(x, mean):
        return (x * x).mean(-1, keepdims=True) - mean * mean

    return layer


@pytest.mark.parametrize("way", ["quotient", "rsqrt", "inverse", "power", "keras", "flax"])
def test_a_normalisation_divides_by_a_constant(way):
    """R = x (w - mean w) / deviation, where input x gradient has a third term."""
    layer = normalised(way)
    draw = np.random.default_rng(3).normal
    weights, images = draw(size=(12, 5)).astype("f4"), draw(size=(2, 2, 2, 3)).astype("f4")

    def network(_, x):
        return layer(x.reshape(len(x), -1)) @ weights

    backend = xaimaps.load(network, {}, input_shape=(2, 2, 3))
    found = xaimaps.attribute(backend, images, "attn_lrp", target=1, reduce=None)
    deviation = images.reshape(2, -1).std(-1).reshape(2, 1, 1, 1)
    multipliers = (weights[:, 1] - weights[:, 1].mean()).reshape(2, 2, 3)
    close(found.maps, images * multipliers / deviation)


def test_a_transformer_of_keras_has_the_maps_of_its_onnx_file():
    """Its converter writes each normalisation as ten operators, and attention as products."""
    pytest.importorskip("jax")
    pytest.importorskip("tf2onnx")
    keras = pytest.importorskip("keras")
    from xaimaps_tensorflow.to_onnx._convert import convert

    layers = keras.layers
    images = keras.Input((6, 6, 3))
    x = layers.Reshape((4, 8))(layers.Conv2D(8, 3, strides=3)(images))
    h = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(h, h)])
    h = layers.Dense(16, activation="gelu")(layers.LayerNormalization(epsilon=1e-6)(x))
    x = layers.GlobalAveragePooling1D()(layers.Add()([x, layers.Dense(8)(h)]))
    model = keras.Model(images, layers.Dense(5)(x))
    draw = np.random.default_rng(4).normal
    model.set_weights([0.5 * draw(size=weight.shape) for weight in model.get_weights()])
    pixels = draw(size=(2, 6, 6, 3)).astype(np.float32)
    backends = xaimaps.load(model), xaimaps.load(convert(model), backend="jax")
    for options in ({}, {"propagate_attention": False}):
        one, other = (
            xaimaps.attribute(backend, pixels, "attn_lrp", target=1, **options).maps
            for backend in backends
        )
        close(one, other)


# Refusals


def test_bounds_of_the_box_are_needed_and_in_order():
    images = np.zeros((1, 9, 9, 3), np.float32)
    backend = ReferenceBackend(pooled_network())
    with pytest.raises(MethodError, match=r"`low` and `high`.*give both"):
        xaimaps.attribute(backend, images, "lrp", target=0, composite="epsilon_gamma_box")
    options = {"composite": "epsilon_gamma_box", "low": 1.0, "high": 1.0}
    with pytest.raises(MethodError, match="`low` must be below `high`"):
        xaimaps.attribute(backend, images, "lrp", target=0, **options)
    with pytest.raises(MethodError, match="0 or more"):
        xaimaps.attribute(backend, images, "lrp", target=0, epsilon=-1.0)
    with pytest.raises(MethodError, match="`composite` must be one of"):
        xaimaps.attribute(backend, images, "lrp", target=0, composite="epsilon_minus")


def test_the_bounds_of_the_box_are_those_of_the_preprocessing():
    """ImageNet's: each channel has a mean and deviation of its own, which are not mixed."""
    backend = ReferenceBackend(pooled_network())
    backend.info.preprocess = xaimaps.PRESETS["torch"]
    images = np.ones((1, 9, 9, 3), np.float32)
    found = xaimaps.attribute(backend, images, "lrp", target=0, composite="epsilon_gamma_box")
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    ends = (-mean / deviation).min(), ((1 - mean) / deviation).max()
    np.testing.assert_allclose((found.options["low"], found.options["high"]), ends, rtol=1e-6)


def test_an_operation_without_a_rule_is_named():
    pytest.importorskip("jax")
    lstm = helper.make_node("LSTM", ["sequence", "w", "r"], ["all"], "memory", hidden_size=2)
    nodes = [
        helper.make_node("Squeeze", ["images", "axis"], ["sequence"]),
        lstm,
        helper.make_node("ReduceMean", ["all"], ["y"], axes=[0, 1], keepdims=0),
    ]
    weights = [
        numpy_helper.from_array(np.ones((1, 8, 6), np.float32), "w"),
        numpy_helper.from_array(np.ones((1, 8, 2), np.float32), "r"),
        numpy_helper.from_array(np.array([1]), "axis"),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [4, 1, 5, 6])
    scores = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])
    graph = helper.make_graph(nodes, "recurrent", [images], [scores], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    backend = xaimaps.load(model, backend="jax")
    with pytest.raises(UnsupportedModelError, match="no propagation rule for LSTM 'memory'"):
        xaimaps.attribute(backend, np.ones((4, 5, 6, 1), np.float32), "lrp", target=0)
