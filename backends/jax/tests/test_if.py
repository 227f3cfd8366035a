"""Layers of graphs with branches: inside those that are known, around those that are not."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import xaimaps
from xaimaps.targets import as_target

DRAW = np.random.default_rng(3)
IMAGES = DRAW.normal(size=(2, 8, 8, 3)).astype(np.float32)
WEIGHTS = {
    "w1": DRAW.normal(size=(4, 3, 3, 3)),
    "w2": DRAW.normal(size=(4, 4, 3, 3)),
    "w3": DRAW.normal(size=(4, 5)),
}
BRANCHES = """
    c = If (condition) <
        then_branch = bright () => (float[n, q, h, w] t) {
            a = Conv <pads = [1, 1, 1, 1]> (x, w1)
            t = Relu (a)
        },
        else_branch = dark () => (float[n, q, h, w] e) {
            d = Conv <pads = [1, 1, 1, 1]> (x, w1)
            e = Neg (d)
        }
    >
"""
PLAIN = "a = Conv <pads = [1, 1, 1, 1]> (x, w1) c = Relu (a)"
CONDITIONS = {
    "constant": "zero = Constant <value_float = 0.0> () condition = Less (zero, one)",
    "of the shape": "s = Shape (x) n = ReduceMax <keepdims = 0> (s) condition = Less (three, n)",
    "of the images": "m = ReduceMax <keepdims = 0> (x) condition = Less (one, m)",
}


def model(start):
    text = f"""
        <ir_version: 9, opset_import: ["" : 18]>
        network (float[N, 3, 8, 8] x) => (float[N, 5] scores) {{
            one = Constant <value_float = 1.0> ()
            three = Constant <value_int = 3> ()
            {start}
            f = Conv (c, w2)
            r = Relu (f)
            p = GlobalAveragePool (r)
            v = Flatten (p)
            scores = MatMul (v, w3)
        }}
    """
    proto = parser.parse_model(text)
    proto.graph.initializer.extend(
        numpy_helper.from_array(array.astype(np.float32), name) for name, array in WEIGHTS.items()
    )
    onnx.checker.check_model(proto)
    return proto


@pytest.fixture(scope="module")
def plain():
    return xaimaps.load(model(PLAIN))


def loaded(condition):
    return xaimaps.load(model(CONDITIONS[condition] + BRANCHES))


def gradients(backend, layer):
    target = as_target(1, len(IMAGES))
    return np.asarray(backend.grad(backend.asarray(IMAGES), target, wrt=layer).gradients)


def test_values_inside_a_branch_that_is_always_taken(plain):
    found = loaded("constant")
    assert [layer.name for layer in found.layers()] == ["a", "t", "f", "r", "p", "scores"]
    np.testing.assert_array_equal(gradients(found, "t"), gradients(plain, "c"))
    np.testing.assert_array_equal(gradients(found, "a"), gradients(plain, "a"))


@pytest.mark.parametrize("condition", ["of the shape", "of the images"])
def test_values_around_a_branch(plain, condition):
    found = loaded(condition)
    assert [layer.name for layer in found.layers()] == ["c", "f", "r", "p", "scores"]
    assert found.default_layer() == plain.default_layer()
    assert found.classifier().layer == "r"
    assert found.find_layer("c").shape == (None, 8, 8, 4)
    np.testing.assert_allclose(gradients(found, "c"), gradients(plain, "c"), atol=1e-7)


def test_of_two_branches_that_share_names_one_stays_closed():
    first = BRANCHES.replace("c = If", "b = If")
    second = BRANCHES.replace("(x, w1)", "(b, w2)")
    found = xaimaps.load(model(CONDITIONS["constant"] + first + second))
    names = [layer.name for layer in found.layers()]
    assert names == ["a", "t", "c", "f", "r", "p", "scores"]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_both_routes_of_a_file_have_the_same_layers(condition):
    jax, runtime = (
        xaimaps.load(model(CONDITIONS[condition] + BRANCHES), backend=name)
        for name in ("jax", "onnxruntime")
    )
    assert [layer.name for layer in jax.layers()] == [layer.name for layer in runtime.layers()]
    assert jax.default_layer().name == runtime.default_layer().name
    for layer in (layer.name for layer in jax.layers()):
        _, expected = jax.forward_with_activations(IMAGES, (layer,))
        _, found = runtime.forward_with_activations(IMAGES, (layer,))
        np.testing.assert_allclose(found[layer], expected[layer], rtol=1e-4, atol=1e-5)
