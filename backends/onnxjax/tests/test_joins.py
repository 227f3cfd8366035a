"""The inputs of residual blocks, whose gradients XLA for CPU would add up anew in each block."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxjax import load
from onnxjax._ops import platforms

TOKENS, WIDTH = 5, 48


def transformer(depth):
    """Blocks of a layer norm, a product and a sum, with a bias, which is no join."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(WIDTH, WIDTH)) / 8, "b": rng.normal(size=WIDTH)}
    nodes, x = [], "x"
    for block in range(depth):
        names = [f"{kind}{block}" for kind in ("normal", "product", "biased", "sum")]
        normal, product, biased, total = names
        nodes += [
            helper.make_node("LayerNormalization", [x, "b"], [normal], axis=-1),
            helper.make_node("MatMul", [normal, "w"], [product]),
            helper.make_node("Add", [product, "b"], [biased]),
            helper.make_node("Add", [x, biased], [total]),
        ]
        x = total
    images = helper.make_tensor_value_info("x", TensorProto.DOUBLE, ("N", TOKENS, WIDTH))
    made = helper.make_tensor_value_info(x, TensorProto.DOUBLE, ("N", TOKENS, WIDTH))
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "blocks", [images], [made], tensors)
    opsets = [helper.make_opsetid("", 18)]
    return load(helper.make_model(graph, opset_imports=opsets, ir_version=10))


def gradient(model):
    def score(x):
        return jnp.sin(model.apply(model.params, x)[0]).sum()

    return jax.jit(jax.grad(score))


@pytest.fixture
def x():
    with jax.enable_x64(True):
        yield jnp.asarray(np.random.default_rng(1).normal(size=(2, TOKENS, WIDTH)))


@pytest.fixture
def without(monkeypatch):
    """Return a function that lets XLA compute sums as often as it likes."""
    own = replace(platforms.lowering(), kept=False)
    return lambda: monkeypatch.setitem(platforms.BY_PLATFORM, jax.default_backend(), own)


def test_joins_are_sums_of_two_paths_that_several_nodes_read():
    graph = transformer(3).graph
    assert graph.joins(graph.inputs) == {"sum0", "sum1"}  # nothing reads the last


def test_a_sum_of_sizes_is_no_join():
    """It is a join by its nodes, and stays in numpy, so that a node can read it as a shape."""
    nodes = [
        helper.make_node("Shape", ["x"], ["size"]),
        helper.make_node("Add", ["size", "size"], ["twice"]),
        helper.make_node("Expand", ["x", "twice"], ["y"]),
        helper.make_node("ConstantOfShape", ["twice"], ["zeros"]),
        helper.make_node("Add", ["y", "zeros"], ["z"]),
    ]
    one = helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N",))
    made = helper.make_tensor_value_info("z", TensorProto.FLOAT, ("M",))
    graph = helper.make_graph(nodes, "sizes", [one], [made])
    model = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
    assert model.graph.joins(["x"]) == {"twice"}
    (z,) = jax.jit(model.apply)(model.params, jnp.ones(1))
    np.testing.assert_array_equal(z, np.ones(2))


def test_derivatives_of_every_mode_are_the_same(x, without):
    model = transformer(3)

    def found():
        slope = gradient(model)
        along = jax.jvp(lambda at: model.apply(model.params, at)[0], (x,), (x,))[1]
        twice = jax.jvp(slope, (x,), (x,))[1]
        return slope(x), along, twice, jax.vmap(slope)(jnp.stack([x, 2 * x]))

    kept = found()
    without()
    for one, other in zip(kept, found(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the sums grow in XLA for CPU")
def test_the_program_grows_with_the_blocks_and_not_with_their_square(x, without):
    def instructions(depth):
        text = gradient(transformer(depth)).lower(x).compile().as_text()
        return text.count(" add(") + text.count(" multiply(")

    first, second = instructions(4), instructions(8)
    assert second < 2.2 * first
    without()
    assert instructions(8) > 1.2 * second
