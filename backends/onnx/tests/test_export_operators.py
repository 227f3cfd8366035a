"""The exported derivative of operators, in ONNX Runtime, against the derivative in JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnxjax import read_graph
from xaimaps_onnx.export._backward import Backward
from xaimaps_onnx.export._traced import Recorder, Traced

MAPS = (2, 4, 7, 8)
WINDOW = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
CHANNELS = [(4,), (4,)]


def ints(*values):
    return np.array(values, np.int64)


CASES = [
    ("Conv", [MAPS, (6, 2, 3, 3), (6,)], {"group": 2, "strides": [2, 1], "pads": [1, 0, 1, 2]}),
    ("Conv", [MAPS, (4, 1, 3, 3)], {"group": 4, "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("Conv", [MAPS, (5, 4, 2, 3)], {"dilations": [2, 1], "strides": [3, 2]}),
    ("ConvTranspose", [MAPS, (4, 3, 3, 3)], {"strides": [2, 3], "pads": [1, 0, 1, 2]}),
    ("MaxPool", [MAPS], WINDOW),
    ("AveragePool", [MAPS], WINDOW | {"count_include_pad": 1}),
    ("AveragePool", [MAPS], WINDOW | {"ceil_mode": 1}),
    *((name, [MAPS], {}) for name in ("GlobalAveragePool", "GlobalMaxPool")),
    ("BatchNormalization", [MAPS, *CHANNELS, (4,), np.ones(4, np.float32)], {}),
    ("InstanceNormalization", [MAPS, *CHANNELS], {}),
    ("LayerNormalization", [MAPS, (8,), (8,)], {"axis": -1}),
    ("LRN", [MAPS], {"size": 3}),
    *((name, [MAPS], {"axis": 1}) for name in ("Softmax", "Flatten")),
    *((name, [MAPS], {}) for name in ("Relu", "Elu", "HardSwish", "Mish")),
    *((name, [MAPS], {}) for name in ("Sigmoid", "Softplus")),
    ("PRelu", [MAPS, (4, 1, 1)], {}),
    ("Gelu", [MAPS], {"approximate": "tanh"}),
    ("Clip", [MAPS, np.float32(-0.5), np.float32(1)], {}),
    ("Gemm", [(3, 5), (4, 5), (4,)], {"transB": 1, "alpha": 0.5}),
    ("MatMul", [(2, 3, 4, 5), (3, 5, 2)], {}),
    ("Einsum", [(2, 3, 4), (5, 3, 4)], {"equation": "nij,kij->nk"}),
    *((name, [MAPS, (4, 1, 8)], {}) for name in ("Mul", "Div", "Max")),
    ("Pow", [MAPS, np.float32(3)], {}),
    ("ReduceMean", [MAPS, ints(2, 3)], {"keepdims": 0}),
    *((name, [MAPS, ints(1)], {}) for name in ("ReduceMax", "ReduceL2")),
    ("Resize", [MAPS, "", np.array([1, 1, 2, 1.5], np.float32)], {"mode": "linear"}),
    ("Resize", [MAPS, "", np.array([1, 1, 2, 2], np.float32)], {"mode": "nearest"}),
    ("Gather", [MAPS, ints(3, 0, 3)], {"axis": 1}),
    ("GatherElements", [(2, 4), ints(3, 0).reshape(2, 1)], {"axis": 1}),
    ("Slice", [MAPS, ints(1, -1), ints(9, -9), ints(2, 3), ints(2, -3)], {}),
    ("Pad", [MAPS, ints(0, 0, 1, -1, 0, 1, 0, 2)], {}),
    ("Pad", [MAPS, ints(0, 0, 1, 2, 0, 0, 1, 1)], {"mode": "reflect"}),
    ("Concat", [MAPS, MAPS], {"axis": 1}),
    ("Transpose", [MAPS], {"perm": [0, 2, 3, 1]}),
    ("DepthToSpace", [MAPS], {"blocksize": 2}),
    ("Expand", [(2, 1, 7), ints(2, 3, 7)], {}),
    ("Tile", [MAPS, ints(1, 2, 1, 1)], {}),
    ("CumSum", [MAPS, np.array(1, np.int64)], {"reverse": 1}),
]


@pytest.mark.parametrize(("operator", "inputs", "attributes"), CASES)
def test_operator(operator, inputs, attributes):
    model, data, wrt = made(operator, inputs, attributes)
    graph = read_graph(model).graph

    def forward(x):
        return graph.run({**data, wrt: x}, ["y"])["y"]

    value, pull = jax.vjp(forward, jnp.asarray(data[wrt]))
    seed = np.random.default_rng(0).normal(size=value.shape).astype(np.float32)
    expected = np.asarray(pull(jnp.asarray(seed))[0])
    found = exported(model, graph, data, wrt, seed)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("operator", ["Relu", "Clip"])
def test_the_slope_at_a_bound_is_zero(operator):
    """The derivative reads the result, in which what was at a bound and beyond it are the same."""
    bounds = [np.float32(0), np.float32(6)] if operator == "Clip" else []
    model, data, wrt = made(operator, [(1, 1, 1, 7), *bounds], {})
    data[wrt].flat[:] = [-1, -0.0, 0, 3, 6, 7, np.nextafter(np.float32(6), 0)]
    seed = np.arange(1, 8, dtype=np.float32).reshape(data[wrt].shape)
    found = exported(model, read_graph(model).graph, data, wrt, seed).ravel()
    beyond = [0, 0] if operator == "Clip" else [5, 6]
    np.testing.assert_array_equal(found, [0, 0, 0, 4, *beyond, 7])


def made(operator, inputs, attributes):
    """Return a model of one node, its inputs by name, and the name of the first."""
    random = np.random.default_rng(1)
    shapes = {f"x{i}": one for i, one in enumerate(inputs) if isinstance(one, tuple)}
    data = {n: random.normal(size=shape).astype(np.float32) for n, shape in shapes.items()}
    fixed = {f"x{i}": x for i, x in enumerate(inputs) if not isinstance(x, tuple | str)}
    names = ["" if isinstance(one, str) else f"x{i}" for i, one in enumerate(inputs)]
    graph = helper.make_graph(
        [helper.make_node(operator, names, ["y"], operator, **attributes)],
        "g",
        [helper.make_tensor_value_info(n, 1, x.shape) for n, x in data.items()],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(np.asarray(x), n) for n, x in fixed.items()],
    )
    opset = helper.make_opsetid("", 20)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    return onnx.shape_inference.infer_shapes(model, data_prop=True), data, "x0"


def exported(model, graph, data, wrt, seed):
    """Return the derivative that the nodes of an export compute."""
    write, backward = Recorder(20), Backward(graph, data, "y")

    def value(name):
        one = {**data, "y": seed}[name]
        return Traced(write, name, one.shape, one.dtype)

    found = backward.pull(Traced(write, "seed", seed.shape, seed.dtype), wrt, value)
    model.graph.node.extend(write.nodes)
    model.graph.initializer.extend(write.constants)
    model.graph.input.append(helper.make_tensor_value_info("seed", 1, seed.shape))
    model.graph.output.append(onnx.ValueInfoProto(name=found.name))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run([found.name], {**data, "seed": seed})[0]
