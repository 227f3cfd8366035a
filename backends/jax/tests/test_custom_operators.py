"""An operator that a user registers has every right that a built-in one has."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from onnxjax import op

import xaimaps
from xaimaps.targets import as_target

DRAW = np.random.default_rng(8)
IMAGES = DRAW.normal(size=(2, 8, 8, 3)).astype(np.float32)
WEIGHTS = {
    "w1": DRAW.normal(size=(4, 3, 3, 3)),
    "b1": DRAW.normal(size=4),
    "w2": DRAW.normal(size=(6, 4, 3, 3)),
    "w3": DRAW.normal(size=(6, 5)),
}


@op("MyRelu", domain="com.example.tests", kind="relu", elementwise=True, homogeneous=True)
def my_relu(xp, x):
    """Passes what is positive."""
    return xp.maximum(x, 0)


@op("HalfPool", domain="com.example.tests", kind="average_pool", planar=True, homogeneous=True)
def half_pool(xp, x):
    """The mean of each 2x2 window."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))


def model(relu, pool):
    text = f"""
        <ir_version: 9, opset_import: ["" : 18, "com.example.tests" : 1]>
        network (float[N, 3, 8, 8] x) => (float[N, 5] scores) {{
            c = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
            r = {relu} (c)
            q = {pool} (r)
            d = Conv <pads = [1, 1, 1, 1]> (q, w2)
            s = {relu} (d)
            p = GlobalAveragePool (s)
            v = Flatten (p)
            scores = MatMul (v, w3)
        }}
    """
    proto = parser.parse_model(text)
    proto.graph.initializer.extend(
        numpy_helper.from_array(array.astype(np.float32), name) for name, array in WEIGHTS.items()
    )
    return proto


@pytest.fixture(scope="module")
def pair():
    custom = model("com.example.tests.MyRelu", "com.example.tests.HalfPool")
    builtin = model("Relu", "AveragePool <kernel_shape = [2, 2], strides = [2, 2]>")
    onnx.checker.check_model(builtin)
    return xaimaps.load(custom, backend="jax"), xaimaps.load(builtin, backend="jax")


@pytest.mark.parametrize(
    "method",
    ["saliency", "guided_backprop", "deconvnet", "fullgrad", "cam", "grad_cam", "ablation_cam"],
)
def test_methods_take_it_as_they_take_a_built_in_one(pair, method):
    custom, builtin = (xaimaps.attribute(one, IMAGES, method, target=1).maps for one in pair)
    np.testing.assert_allclose(custom, builtin, rtol=1e-5, atol=1e-6)


def test_its_values_are_layers(pair):
    custom, builtin = ([(layer.name, layer.shape) for layer in one.layers()] for one in pair)
    assert custom == builtin
    assert {"r", "q"} <= {name for name, _ in custom}


def test_it_has_no_bias(pair):
    custom, builtin = (one.biases(IMAGES, as_target(0, len(IMAGES)))[1] for one in pair)
    assert [term.shape for term in custom] == [term.shape for term in builtin]
