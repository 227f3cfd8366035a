"""Files in QDQ form give the integers that ONNX Runtime's own optimiser makes of them."""

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxjax import load

RNG = np.random.default_rng(3)


class Group:
    """Operands that are dequantised, one operator, and its result quantised and dequantised."""

    def __init__(self, operator, *, ties=False, **attributes):
        self.nodes, self.constants, self.names = [], {}, []
        self.operator, self.attributes, self.ties = operator, attributes, ties

    def scale(self):
        """With `ties`, a power of two, so that sums often lie between two integers."""
        return np.float32(2.0**-5 if self.ties else RNG.uniform(0.01, 0.1))

    def add(self, name, integers, scale, zero, **attributes):
        self.constants |= {f"{name}_scale": np.asarray(scale, np.float32), f"{name}_zero": zero}
        source = name if integers is None else f"{name}_integers"
        if integers is not None:
            self.constants[source] = integers
        self.names.append(f"{name}_real")
        inputs = [source, f"{name}_scale", f"{name}_zero"]
        self.nodes.append(
            helper.make_node("DequantizeLinear", inputs, [self.names[-1]], **attributes)
        )

    def activation(self, name, zero=100):
        self.add(name, None, self.scale(), np.uint8(zero))

    def weight(self, shape, axis):
        integers = RNG.integers(-127, 128, shape).astype(np.int8)
        scales = np.asarray([self.scale() for _ in range(shape[axis])], np.float32) / 8
        self.add("w", integers, scales, np.zeros(shape[axis], np.int8), axis=axis)
        self.bias_scale = self.constants["x_scale"] * scales

    def bias(self):
        integers = RNG.integers(-5000, 5000, self.bias_scale.shape).astype(np.int32)
        zero = np.zeros(self.bias_scale.shape, np.int32)
        self.add("b", integers, self.bias_scale, zero, axis=0)

    def model(self, *shapes, zero=90):
        scale = 2 * self.scale() if self.ties else np.float32(0.3)
        self.constants |= {"y_scale": np.float32(scale), "y_zero": np.uint8(zero)}
        self.nodes += [
            helper.make_node(self.operator, self.names, ["real"], name="op", **self.attributes),
            helper.make_node("QuantizeLinear", ["real", "y_scale", "y_zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "y_scale", "y_zero"], ["y"]),
        ]
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.UINT8, shape)
            for name, shape in zip(("x", "z"), shapes, strict=False)
        ]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(shapes[0]))]
        weights = [numpy_helper.from_array(a, n) for n, a in self.constants.items()]
        graph = helper.make_graph(self.nodes, "group", inputs, outputs, weights)
        opsets = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def conv(**options):
    group = Group("Conv", pads=[1] * 4, **options)
    group.activation("x")
    group.weight((6, 4 // options.get("group", 1), 3, 3), 0)
    group.bias()
    return group.model([2, 4, 9, 9]), [(2, 4, 9, 9)]


def sum_of_two(operator="Add", **options):
    group = Group(operator, **options)
    group.activation("x")
    group.activation("z", zero=30)
    return group.model([2, 8, 64, 64], [2, 8, 64, 64]), [(2, 8, 64, 64)] * 2


def pool(**options):
    group = Group("GlobalAveragePool", **options)
    group.activation("x")
    return group.model([2, 64, 7, 7]), [(2, 64, 7, 7)]


def gemm(transposed, **options):
    group = Group("Gemm", transB=int(transposed), **options)
    group.activation("x")
    group.weight((50, 32) if transposed else (32, 50), 0 if transposed else 1)
    group.bias()
    return group.model([4, 32]), [(4, 32)]


def matmul(**options):
    group = Group("MatMul", **options)
    group.activation("x")
    group.activation("z")
    return group.model([2, 16, 24], [2, 24, 40]), [(2, 16, 24), (2, 24, 40)]


MODELS = {
    "Conv": conv,
    "Conv-grouped": lambda **options: conv(group=2, **options),
    "Add": sum_of_two,
    "Mul": lambda **options: sum_of_two("Mul", **options),
    "GlobalAveragePool": pool,
    "Gemm": lambda **options: gemm(False, **options),
    "Gemm-transposed": lambda **options: gemm(True, **options),
    "MatMul": matmul,
}


def runtime(model, inputs, exact=True):
    """ONNX Runtime as it is deployed: with its optimiser."""
    options = onnxruntime.SessionOptions()
    # Without VNNI, ONNX Runtime's fast sums of 8-bit products saturate unless it is told not to.
    options.add_session_config_entry("session.x64quantprecision", str(int(exact)))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, dict(zip(("x", "z"), inputs, strict=False)))[0]


@pytest.mark.parametrize("ties", [False, True], ids=["", "ties"])
@pytest.mark.parametrize("name", MODELS)
def test_a_group_gives_the_integers_of_the_runtime(name, ties):
    model, shapes = MODELS[name](ties=ties)
    inputs = [RNG.integers(0, 256, shape).astype(np.uint8) for shape in shapes]
    loaded = load(model)
    (got,) = jax.jit(loaded.apply)(loaded.params, *map(jnp.asarray, inputs))
    expected = runtime(model, inputs)
    assert len(np.unique(expected)) > 3
    np.testing.assert_array_equal(got, expected)


def test_an_operator_in_a_group_is_a_layer_with_the_gradient_of_the_real_one():
    model, (shape,) = conv()
    loaded = load(model)
    x = jnp.asarray(RNG.integers(90, 110, shape).astype(np.uint8))
    (y,) = loaded.apply(loaded.params, x)
    given = loaded.apply(loaded.params, x, taps={"real": jnp.zeros(y.shape)})[0]
    np.testing.assert_array_equal(given, y)

    def total(real):
        return loaded.graph.run({**loaded.params, "x_real": real}, ["real"])["real"].sum()

    real = loaded.graph.run({**loaded.params, "x": x}, ["x_real"])["x_real"]
    weights = {node.name: node for node in loaded.graph.nodes}["op"].inputs[1]
    kernel = np.asarray({**loaded.params, **loaded.graph.constants}[weights])

    def plain(x):
        return jax.lax.conv(x, kernel, (1, 1), ((1, 1), (1, 1))).sum()

    expected = jax.grad(plain)(real)
    np.testing.assert_allclose(jax.grad(total)(real), expected, rtol=1e-4, atol=1e-5)


def test_what_was_never_an_integer_is_not_rounded_on_its_way_in():
    model, (shape,) = pool()
    loaded = load(model)
    real = np.zeros(shape, np.float32)
    real[:, :, 3, 3] = 0.5 * 49 * loaded.graph.constants["y_scale"] * np.linspace(2, 9, 64)
    got = loaded.graph.run({**loaded.params, "x_real": jnp.asarray(real)}, ["y"])["y"]
    mean = real.mean((2, 3), keepdims=True)
    assert np.abs(np.asarray(got) - mean).max() <= 0.51 * loaded.graph.constants["y_scale"]


def test_sixteen_bits_and_other_readers_stay_real():
    model, shapes = sum_of_two()
    extra = helper.make_tensor_value_info("real", TensorProto.FLOAT, [None] * 4)
    model.graph.output.append(extra)
    inputs = [jnp.asarray(RNG.integers(0, 256, shape).astype(np.uint8)) for shape in shapes]
    loaded = load(model)
    rounded, real = loaded.apply(loaded.params, *inputs)
    assert np.abs(real - rounded).max() > 0


@pytest.mark.parametrize("change", ["no zero point", "another axis"])
def test_a_weight_that_integer_operators_do_not_take_stays_real(change):
    model, (shape,) = gemm(transposed=False)
    (dequantizer,) = [node for node in model.graph.node if node.input[0] == "w_integers"]
    if change == "no zero point":
        del dequantizer.input[2]
    else:
        scale = RNG.uniform(0.01, 0.1, 32).astype(np.float32)
        for name, values in (("w_scale", scale), ("w_zero", np.zeros(32, np.int8))):
            (tensor,) = [one for one in model.graph.initializer if one.name == name]
            tensor.CopyFrom(numpy_helper.from_array(values, name))
        dequantizer.attribute[0].i = 0
    x = RNG.integers(0, 256, shape).astype(np.uint8)
    loaded = load(model)
    (got,) = jax.jit(loaded.apply)(loaded.params, jnp.asarray(x))
    step = loaded.graph.constants["y_scale"]
    assert np.abs(got - runtime(model, [x], exact=False)).max() <= 1.01 * step
