"""Quantised and fused operators: the integers of ONNX Runtime, and gradients that get through."""

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxjax import load, run
from onnxjax.errors import UnsupportedModelError

RNG = np.random.default_rng(7)
MICROSOFT = "com.microsoft"


def model_of(nodes, inputs, outputs, constants=None, opset=21):
    """A model of `nodes`; inputs are example arrays, outputs names with their types."""
    graph = helper.make_graph(
        nodes,
        "test",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in inputs.items()
        ],
        [helper.make_tensor_value_info(n, kind, [None]) for n, kind in outputs.items()],
        [numpy_helper.from_array(a, n) for n, a in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def runtime(model, *inputs):
    """What ONNX Runtime computes, without its optimiser."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for value in model.graph.output:  # of whatever rank
        value.type.tensor_type.ClearField("shape")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]
    return session.run(None, dict(zip(names, map(np.asarray, inputs), strict=True)))


def single(operator, arrays, kinds, domain=MICROSOFT, traced=1, **attributes):
    """A model of one node: the first `traced` arrays are inputs, the rest constants; "" is none."""
    names = ["" if a is None else f"x{i}" for i, a in enumerate(arrays)]
    named = {n: a for n, a in zip(names, arrays, strict=True) if n}
    first = dict(list(named.items())[:traced])
    outputs = {f"y{i}": kind for i, kind in enumerate(kinds) if kind}
    wanted = [f"y{i}" if kind else "" for i, kind in enumerate(kinds)]
    node = helper.make_node(operator, names, wanted, domain=domain, **attributes)
    rest = {n: a for n, a in named.items() if n not in first}
    return model_of([node], first, outputs, rest), list(first.values())


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def bytes_(*shape, dtype=np.uint8):
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max + 1, shape).astype(dtype)


def f(value):
    return np.float32(value)


def u(value):
    return np.uint8(value)


def i(value):
    return np.int8(value)


U8, I8, F32 = TensorProto.UINT8, TensorProto.INT8, TensorProto.FLOAT

FLOAT_CASES = {
    "FusedConv-Relu": (
        "FusedConv",
        [floats(2, 4, 9, 9), floats(6, 4, 3, 3), floats(6), floats(2, 6, 9, 9)],
        {"activation": "Relu", "pads": [1, 1, 1, 1]},
    ),
    "FusedConv-Clip": (
        "FusedConv",
        [floats(1, 4, 9, 9), floats(4, 1, 3, 3), floats(4)],
        {"activation": "Clip", "activation_params": [0.0, 6.0], "group": 4},
    ),
    "FusedConv-LeakyRelu": (
        "FusedConv",
        [floats(1, 4, 9, 9), floats(4, 4, 3, 3), floats(4)],
        {"activation": "LeakyRelu", "activation_params": [0.2], "strides": [2, 2]},
    ),
    "FusedConv-HardSigmoid": (
        "FusedConv",
        [floats(1, 4, 5, 5), floats(4, 4, 1, 1), floats(4)],
        {"activation": "HardSigmoid", "activation_params": [0.2, 0.5]},
    ),
    "FusedGemm": (
        "FusedGemm",
        [floats(5, 4), floats(6, 5), floats(6)],
        {
            "activation": "LeakyRelu",
            "activation_alpha": 0.3,
            "alpha": 0.5,
            "transA": 1,
            "transB": 1,
        },
    ),
    "FusedMatMul": (
        "FusedMatMul",
        [floats(2, 5, 4), floats(2, 6, 5)],
        {"alpha": 0.5, "transA": 1, "transB": 1},
    ),
    "FusedMatMul-batch": (
        "FusedMatMul",
        [floats(4, 3, 5), floats(3, 5, 6)],
        {"transBatchA": 1},
    ),
    "FusedMatMul-batch-transposed": (
        "FusedMatMul",
        [floats(5, 3, 4), floats(5, 3, 6)],
        {"transBatchA": 1, "transBatchB": 1, "transA": 1},
    ),
    "Gelu": ("Gelu", [floats(3, 5)], {}),
    "BiasGelu": ("BiasGelu", [floats(3, 5), floats(5)], {}),
    "FastGelu": ("FastGelu", [floats(3, 5), floats(5)], {}),
    "QuickGelu": ("QuickGelu", [floats(3, 5)], {"alpha": 1.5}),
    "SkipLayerNormalization": (
        "SkipLayerNormalization",
        [floats(2, 3, 8), floats(2, 3, 8), floats(8), floats(8), floats(8)],
        {"epsilon": 1e-5},
    ),
    "SkipSimplifiedLayerNormalization": (
        "SkipSimplifiedLayerNormalization",
        [floats(2, 3, 8), floats(2, 3, 8), floats(8), floats(8)],
        {"epsilon": 1e-5},
    ),
    "Pad": ("Pad", [floats(2, 3), np.array([0, 1, 1, 0])], {"mode": "reflect"}),
    "MatMulIntegerToFloat": (
        "MatMulIntegerToFloat",
        [bytes_(3, 8), bytes_(8, 5), f(0.02), floats(5) ** 2, u(120), bytes_(5), floats(5)],
        {},
    ),
    "DynamicQuantizeMatMul": (
        "DynamicQuantizeMatMul",
        [floats(3, 8), bytes_(8, 5, dtype=np.int8), f(0.05), i(3), floats(5)],
        {},
    ),
    "QGemm-float": (
        "QGemm",
        [bytes_(4, 8), f(0.02), u(9), bytes_(6, 8), f(0.1), u(7), bytes_(6).astype(np.int32)],
        {"transB": 1, "alpha": 0.5},
    ),
}


def require_exact_sums(name):
    """Skip a case in which ONNX Runtime saturates: on x86 without VNNI it adds products in 16 bits.

    It is then no reference for unsigned inputs and signed weights of 8 bits.
    """
    if name.startswith(("QLinearConv", "DynamicQuantizeMatMul")):
        left, right = np.full((1, 8), 255, np.uint8), np.full((8, 1), 127, np.int8)
        model, inputs = single("MatMulInteger", [left, right], [TensorProto.INT32], domain="")
        if runtime(model, *inputs)[0].item() != 8 * 255 * 127:
            pytest.skip("ONNX Runtime's sums of 8-bit products saturate on this processor")


@pytest.mark.parametrize("name", FLOAT_CASES)
def test_fused_operator_equals_onnx_runtime(name):
    require_exact_sums(name)
    operator, arrays, attributes = FLOAT_CASES[name]
    model, inputs = single(operator, arrays, [F32], **attributes)
    (expected,), (got,) = runtime(model, *inputs), run(model, inputs)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("operator", "arrays"),
    [
        ("SkipLayerNormalization", [floats(2, 3, 8), floats(2, 3, 8), floats(8)]),
        ("SkipSimplifiedLayerNormalization", [floats(2, 3, 8), floats(2, 3, 8), floats(8)]),
    ],
)
def test_skip_normalization_gives_the_residual_sum(operator, arrays):
    model, inputs = single(operator, arrays, [F32, None, None, F32], epsilon=1e-5)
    for got, expected in zip(run(model, inputs), runtime(model, *inputs), strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


def qconv(dtype, per_channel, channels_last=False, group=1):
    weights = bytes_(6, 4 // group, 3, 3, dtype=np.int8)
    scale = RNG.uniform(0.001, 0.01, 6 if per_channel else ()).astype(np.float32)
    zero = np.zeros(scale.shape, np.int8)
    x = bytes_(2, *((9, 9, 4) if channels_last else (4, 9, 9)), dtype=dtype)
    bias = RNG.integers(-9999, 9999, 6).astype(np.int32)
    return [x, f(0.02), dtype(3), weights, scale, zero, f(0.1), dtype(5), bias]


PAIR = [f(0.021), u(120), bytes_(2, 3, 8, 8), f(0.035), u(99)]

INTEGER_CASES = {
    "QLinearConv": ("QLinearConv", qconv(np.uint8, False), {"domain": "", "pads": [1] * 4}),
    "QLinearConv-channel": (
        "QLinearConv",
        qconv(np.uint8, True),
        {"domain": "", "strides": [2, 2]},
    ),
    "QLinearConv-group": (
        "QLinearConv",
        qconv(np.uint8, True, group=2),
        {"domain": "", "group": 2},
    ),
    "QLinearConv-last": (
        "QLinearConv",
        qconv(np.uint8, True, channels_last=True),
        {"channels_last": 1, "pads": [1] * 4},
    ),
    "QLinearMatMul": (
        "QLinearMatMul",
        [bytes_(4, 8), f(0.02), u(9), bytes_(8, 6), f(0.1), u(7), f(0.3), u(100)],
        {"domain": ""},
    ),
    "QLinearAdd": ("QLinearAdd", [bytes_(2, 3, 8, 8), *PAIR, f(0.05), u(128)], {}),
    "QLinearAdd-int8": (
        "QLinearAdd",
        [
            bytes_(4, 8, dtype=np.int8),
            f(0.1),
            i(4),
            bytes_(8, dtype=np.int8),
            f(0.2),
            i(-9),
            f(0.3),
            i(1),
        ],
        {},
    ),
    "QLinearMul": ("QLinearMul", [bytes_(2, 3, 8, 8), *PAIR, f(0.05), u(128)], {}),
    "QLinearSigmoid": (
        "QLinearSigmoid",
        [np.arange(256, dtype=np.uint8), f(0.05), u(128), f(1 / 256), u(0)],
        {},
    ),
    "QLinearLeakyRelu": (
        "QLinearLeakyRelu",
        [np.arange(256, dtype=np.uint8), f(0.05), u(128), f(0.037), u(40)],
        {"alpha": 0.1},
    ),
    "QLinearAveragePool": (
        "QLinearAveragePool",
        [bytes_(2, 3, 9, 9), f(0.05), u(128), f(0.04), u(100)],
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    ),
    "QLinearAveragePool-last": (
        "QLinearAveragePool",
        [bytes_(2, 9, 9, 3), f(0.05), u(128), f(0.04), u(100)],
        {"kernel_shape": [3, 3], "strides": [2, 2], "channels_last": 1},
    ),
    "QLinearGlobalAveragePool": (
        "QLinearGlobalAveragePool",
        [bytes_(2, 16, 7, 7), f(0.05), u(128), f(0.03), u(100)],
        {},
    ),
    "QLinearGlobalAveragePool-last": (
        "QLinearGlobalAveragePool",
        [bytes_(2, 7, 7, 16), f(0.05), u(128), f(0.03), u(100)],
        {"channels_last": 1},
    ),
    "QLinearConcat": (
        "QLinearConcat",
        [f(0.05), u(100), bytes_(2, 3, 4), f(0.021), u(120), bytes_(2, 5, 4), f(0.035), u(99)],
        {"axis": 1, "traced": 3},
    ),
    "QLinearWhere": (
        "QLinearWhere",
        [
            bytes_(4, 8) > 99,
            bytes_(4, 8),
            f(0.02),
            u(9),
            bytes_(4, 8),
            f(0.1),
            u(7),
            f(0.3),
            u(100),
        ],
        {"traced": 2},
    ),
    "QGemm": (
        "QGemm",
        [
            *(bytes_(4, 8), f(0.02), u(9), bytes_(8, 6), f(0.1), u(7)),
            *(RNG.integers(-999, 999, 6).astype(np.int32), f(0.4), u(128)),
        ],
        {},
    ),
    "NhwcMaxPool": (
        "NhwcMaxPool",
        [bytes_(2, 9, 9, 4)],
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    ),
    "QuantizeLinear": (
        "QuantizeLinear",
        [RNG.uniform(-20, 20, (64, 64)).astype(np.float32), f(0.1), u(128)],
        {"domain": ""},
    ),
    "QuantizeLinear-ties": (
        "QuantizeLinear",
        [(np.arange(-600, 600) * 0.05).astype(np.float32), f(0.1), i(5)],
        {"domain": ""},
    ),
    "QuantizeLinear-microsoft": (
        "QuantizeLinear",
        [floats(3, 4), np.array([0.1, 0.02, 0.3], np.float32), bytes_(3)],
        {"axis": 0},
    ),
    "ConvInteger": (
        "ConvInteger",
        [bytes_(2, 4, 9, 9), bytes_(6, 4, 3, 3), u(99), u(120)],
        {"domain": "", "pads": [1] * 4, "kind": TensorProto.INT32},
    ),
    "MatMulInteger": (
        "MatMulInteger",
        [bytes_(4, 64), bytes_(64, 6), u(99), u(120)],
        {"domain": "", "kind": TensorProto.INT32},
    ),
}


@pytest.mark.parametrize("name", INTEGER_CASES)
def test_integers_equal_those_of_onnx_runtime(name):
    require_exact_sums(name)
    operator, arrays, options = INTEGER_CASES[name]
    options = {**options}
    kind = options.pop("kind", I8 if arrays[-1].dtype == np.int8 else U8)
    model, inputs = single(operator, arrays, [kind], **options)
    (expected,), (got,) = runtime(model, *inputs), run(model, inputs)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


def test_scales_that_are_parameters_round_no_other_way():
    """Many scales are arguments of the compiled program, where XLA would multiply by 1 / scale."""
    y_scale = next(y for y in np.arange(1, 99, dtype="f4") / 100 if y / 2 * (f(1) / y) != 0.5)
    weights, images = np.ones((80, 1, 1, 1), np.int8), np.arange(200, dtype=np.uint8)
    images, zero = images.reshape(1, 1, 10, 20), np.zeros(80, np.int8)
    halves = np.full(80, y_scale / 2)  # so that every other value is a tie
    arrays = [images, f(1), u(0), weights, halves, zero, y_scale, u(0)]
    model, given = single("QLinearConv", arrays, [TensorProto.UINT8], domain="")
    (got,) = run(model, given)
    np.testing.assert_array_equal(got, runtime(model, *given)[0])
    np.testing.assert_array_equal(got[0, 0], np.rint(images[0, 0] / 2))


def test_softmax_differs_by_no_more_than_one_step():
    x = bytes_(8, 32)
    model, inputs = single(
        "QLinearSoftmax", [x, f(0.05), u(128), f(1 / 256), u(0)], [U8], axis=-1, opset=13
    )
    (expected,), (got,) = runtime(model, *inputs), run(model, inputs)
    assert np.abs(got.astype(int) - expected).max() <= 1


def qdq_chain():
    """Quantise, dequantise, pool, quantise, dequantise, as the quantiser writes it."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("MaxPool", ["q"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("DequantizeLinear", ["m", "s", "z"], ["y"]),
    ]
    x = RNG.uniform(-1, 1, (1, 1, 4, 4)).astype(np.float32)
    return model_of(nodes, {"x": x}, {"y": F32}, {"s": f(0.005), "z": u(128)}), x


def test_gradient_passes_straight_through_inside_the_range():
    model, x = qdq_chain()
    loaded = load(model)
    gradient = jax.grad(lambda x: loaded.apply(loaded.params, x)[0].sum())(jnp.asarray(x))
    low, high = -128 * 0.005, 127 * 0.005
    for block, part in zip(_blocks(x), _blocks(np.asarray(gradient)), strict=True):
        winner = np.argmax(np.round(np.clip(block, low, high) / 0.005))
        expected = np.zeros(4, np.float32)
        expected[winner] = low <= block[winner] <= high
        np.testing.assert_allclose(part, expected, rtol=1e-6)


def _blocks(x):
    return [x[0, 0, r : r + 2, c : c + 2].ravel() for r in (0, 2) for c in (0, 2)]


def test_quantised_values_can_be_tapped():
    model, x = qdq_chain()
    loaded = load(model)

    def total(eps):
        return loaded.apply(loaded.params, x, taps={"q": eps})[0].sum()

    gradient = jax.grad(total)(jnp.zeros(x.shape))
    assert float(gradient.sum()) == pytest.approx(4 * 0.005)


def test_quantised_convolution_has_the_gradient_of_the_real_one():
    arrays = qconv(np.uint8, True)
    arrays[0] = RNG.uniform(0, 1, (1, 4, 9, 9)).astype(np.float32)
    x, x_scale, x_zero, w, w_scale, w_zero = arrays[:6]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        helper.make_node("QLinearConv", ["q", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["c"]),
        helper.make_node("DequantizeLinear", ["c", "ys", "yz"], ["y"]),
    ]
    names = ("xs", "xz", "w", "ws", "wz", "ys", "yz")
    values = (x_scale, x_zero, w, w_scale, w_zero, f(1.0), u(128))
    model = model_of(nodes, {"x": x}, {"y": F32}, dict(zip(names, values, strict=True)))
    loaded = load(model)

    def real(x):
        kernel = w.astype(np.float32) * w_scale[:, None, None, None]
        return jax.lax.conv(x, kernel, (1, 1), "VALID").sum()

    got = jax.grad(lambda x: loaded.apply(loaded.params, x)[0].sum())(jnp.asarray(x))
    np.testing.assert_allclose(got, jax.grad(real)(jnp.asarray(x)), rtol=1e-4, atol=1e-5)


def test_dynamic_quantisation_passes_gradients():
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    x = floats(3, 4)
    loaded = load(model_of(nodes, {"x": x}, {"y": F32}))
    gradient = jax.grad(lambda x: loaded.apply(loaded.params, x)[0].sum())(jnp.asarray(x))
    np.testing.assert_allclose(gradient, np.ones((3, 4)), rtol=1e-6)


def test_constant_weights_are_dequantised_at_load():
    weights, scale, zero = bytes_(8, 8, dtype=np.int8), f(0.1), i(0)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["v"]),
        helper.make_node("MatMul", ["x", "v"], ["y"]),
    ]
    constants = {"w": weights, "s": scale, "z": zero}
    loaded = load(model_of(nodes, {"x": floats(2, 8)}, {"y": F32}, constants))
    assert list(loaded.params) == ["v"]
    np.testing.assert_array_equal(loaded.params["v"], weights * scale)


def test_float8_is_refused_by_name():
    zero = np.zeros((), helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT8E4M3FN))
    model, inputs = single(
        "QuantizeLinear", [floats(3), f(0.1), zero], [TensorProto.FLOAT8E4M3FN], domain=""
    )
    with pytest.raises(UnsupportedModelError, match="float8"):
        load(model).apply({}, jnp.asarray(inputs[0]))


def test_unknown_activation_is_refused_by_name():
    model, inputs = single("FusedGemm", [floats(2, 2), floats(2, 2)], [F32], activation="Softsign")
    with pytest.raises(UnsupportedModelError, match="Softsign"):
        run(model, inputs)


def test_models_are_valid():
    model, _ = qdq_chain()
    onnx.checker.check_model(model)
