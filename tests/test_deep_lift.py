"""DeepLIFT against SHAP, and its law: the maps sum to the difference of the scores."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import xaimaps
from xaimaps.errors import UnsupportedModelError
from xaimaps.testing import ReferenceBackend, pooled_network

REFERENCE = Path(__file__).parent / "references" / "deep_lift.npz"


@pytest.fixture(scope="module")
def stored():
    with np.load(REFERENCE) as values:
        return dict(values)


def onnx_network(stored, batch="N"):
    pytest.importorskip("jax")
    names = ("0.weight", "0.bias", "3.weight", "3.bias", "7.weight", "7.bias")
    weights = [numpy_helper.from_array(stored[name].astype(np.float32), name) for name in names]
    nodes = [
        helper.make_node("Conv", ["images", *names[:2]], ["conv1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv1"], ["relu1"]),
        helper.make_node("MaxPool", ["relu1"], ["pool"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["pool", *names[2:4]], ["conv2"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv2"], ["relu2"]),
        helper.make_node("GlobalAveragePool", ["relu2"], ["gap"]),
        helper.make_node("Flatten", ["gap"], ["flat"]),
        helper.make_node("Gemm", ["flat", *names[4:]], ["y"], transB=1),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, 8, 8])
    scores = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 5])
    graph = helper.make_graph(nodes, "pooled", [images], [scores], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return xaimaps.load(model, backend="jax")


def one_image_at_a_time(stored):
    return onnx_network(stored, batch=1)


def keras_network(stored):
    keras = pytest.importorskip("keras")
    pytest.importorskip("tensorflow")
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.MaxPool2D(),
            layers.Conv2D(6, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5),
        ]
    )
    orders = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
    names = ("0.weight", "0.bias", "3.weight", "3.bias", "7.weight", "7.bias")
    model.set_weights([stored[name].transpose(orders[stored[name].ndim]) for name in names])
    return xaimaps.load(model)


@pytest.mark.parametrize("load", [onnx_network, one_image_at_a_time, keras_network])
@pytest.mark.parametrize("key", ["one", "several"])
def test_maps_are_those_of_shap(stored, load, key):
    """One baseline that is not zero, and the mean over three."""
    baseline = stored["baselines"][1] if key == "one" else stored["baselines"]
    target = int(stored["target"])
    found = xaimaps.attribute(
        load(stored), stored["images"], "deep_lift", target=target, baseline=baseline, reduce=None
    )
    np.testing.assert_allclose(
        found.maps, stored[key], rtol=0, atol=2e-6 * np.abs(stored[key]).max()
    )
    np.testing.assert_allclose(found.details["completeness_delta"], 0, atol=1e-5)


def test_several_targets_at_once(stored):
    backend = ReferenceBackend(pooled_network())
    images = np.random.default_rng(1).normal(size=(2, 9, 9, 3)).astype(np.float32)
    both = xaimaps.attribute(backend, images, "deep_lift", target=xaimaps.several(1, 3))
    for index, target in enumerate((1, 3)):
        one = xaimaps.attribute(backend, images, "deep_lift", target=target)
        np.testing.assert_allclose(both.maps[:, index], one.maps, atol=1e-6)
        np.testing.assert_allclose(one.details["completeness_delta"], 0, atol=1e-5)


def test_maps_sum_to_the_difference_whatever_the_activations():
    """Batch normalisation, SiLU, GELU, hard-swish, a gate, a quotient, max pooling, an addition."""
    jax = pytest.importorskip("jax")
    draw = np.random.default_rng(0).normal

    def weights(*shape):
        return draw(size=shape, scale=0.4).astype(np.float32)

    kernel, second, shrink = weights(3, 3, 3, 8), weights(3, 3, 8, 8), weights(8, 4)
    grow, dense, scale = weights(4, 8), weights(8, 5), weights(8)

    def conv(x, kernel):
        order = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=order)

    def network(_, x):
        z = conv(x, kernel) * scale + 0.3
        h = z * jax.nn.sigmoid(z)
        gate = jax.nn.sigmoid(jax.nn.gelu(h.mean((1, 2)) @ shrink) @ grow)
        h = h + jax.nn.hard_swish(conv(h * gate[:, None, None, :], second))
        h = h / (1 + jax.numpy.abs(h).mean((1, 2), keepdims=True))
        h = jax.lax.reduce_window(h, -np.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return h.mean((1, 2)) @ dense

    backend = xaimaps.load(network, {}, input_shape=(9, 9, 3))
    images, baseline = 3 * weights(3, 9, 9, 3), weights(9, 9, 3)
    found = xaimaps.attribute(backend, images, "deep_lift", target=1, baseline=baseline)
    rise = (network(None, images) - network(None, baseline[None]))[:, 1]
    assert np.abs(rise).min() > 0.1
    np.testing.assert_allclose(found.maps.sum((1, 2)), rise, rtol=1e-4)


@pytest.mark.parametrize("method", ["deep_lift", "lrp", "attn_lrp"])
@pytest.mark.parametrize("written", ["softmax", "quotient"])
def test_a_softmax_at_the_end_is_passed_by(method, written):
    """Scores are the logits, so that what makes probabilities of them needs no rule."""
    jax = pytest.importorskip("jax")
    draw = np.random.default_rng(5).normal
    kernel = draw(size=(3, 3, 3, 4)).astype(np.float32)
    dense = draw(size=(4, 5)).astype(np.float32)

    def logits(_, x):
        order = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=order)
        return jax.nn.relu(x).mean((1, 2)) @ dense

    def probabilities(_, x):
        y = logits(None, x)
        if written == "softmax":
            return jax.nn.softmax(y)
        powers = jax.numpy.exp(y - y.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)

    images = draw(size=(2, 9, 9, 3)).astype(np.float32)
    backends = [xaimaps.load(fn, {}, input_shape=(9, 9, 3)) for fn in (logits, probabilities)]
    one, other = (xaimaps.attribute(backend, images, method, target=1).maps for backend in backends)
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_an_operation_without_a_rule_is_named():
    jax = pytest.importorskip("jax")
    weights = np.random.default_rng(0).normal(size=(81, 6)).astype(np.float32)

    def network(_, x):
        hidden = jax.nn.softmax(x.reshape(len(x), -1) @ weights)
        return hidden @ weights[:6]

    backend = xaimaps.load(network, {}, input_shape=(9, 9, 1))
    with pytest.raises(UnsupportedModelError, match="no propagation rule for"):
        xaimaps.attribute(backend, np.ones((1, 9, 9, 1), np.float32), "deep_lift", target=1)
