"""The subgradients at exact ties, which docs/ties.md lists."""

import jax
import numpy as np
import onnx
import onnxjax
import pytest
from onnx import TensorProto, helper, numpy_helper

ZERO, SIX = np.float32(0), np.float32(6)
TIES = {
    "Relu at 0": (0, helper.make_node("Relu", ["x"], ["y"]), [0, 0, 0, 0]),
    "Clip at 0": (0, helper.make_node("Clip", ["x", "zero", "six"], ["y"]), [0, 0, 0, 0]),
    "Clip at 6": (6, helper.make_node("Clip", ["x", "zero", "six"], ["y"]), [0, 0, 0, 0]),
    "Max at 0": (0, helper.make_node("Max", ["x", "zero"], ["y"]), [0.5, 0.5, 0.5, 0.5]),
    "MaxPool": (0, helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2]), [1, 0, 0, 0]),
    "ReduceMax": (0, helper.make_node("ReduceMax", ["x"], ["y"], axes=[2, 3]), 4 * [0.25]),
    "LeakyRelu": (0, helper.make_node("LeakyRelu", ["x"], ["y"], alpha=0.5), 4 * [0.5]),
}


@pytest.mark.parametrize(("value", "node", "expected"), TIES.values(), ids=TIES)
def test_a_tie_has_the_subgradient_that_the_documentation_lists(value, node, expected):
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 2, 2])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, 4 * [None])
    numbers = {"zero": ZERO, "six": SIX}
    weights = [
        numpy_helper.from_array(n, name) for name, n in numbers.items() if name in node.input
    ]
    graph = helper.make_graph([node], "g", [given], [made], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    loaded = onnxjax.load(model)

    def total(x):
        return loaded.apply(loaded.params, x)[0].sum()

    found = jax.grad(total)(np.full((1, 1, 2, 2), value, np.float32))
    np.testing.assert_array_equal(np.ravel(found), expected)
