"""Derivatives: against central differences in float64, and the conventions at kinks."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from onnx import helper, numpy_helper
from onnxjax import load
from onnxjax._ops.slicing import pad_11

RNG = np.random.default_rng(20)
OPSET = 22


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def spread(*shape, low=-2.0, high=2.0):
    """Numbers that keep a distance from each other and from kinks at round places."""
    size = int(np.prod(shape))
    values = low + (high - low) * (np.arange(size) + 0.37) / size
    return RNG.permutation(values).reshape(shape)


def integers(*values):
    return np.asarray(values, np.int64)


X = spread(3, 4)
POSITIVE = spread(3, 4, low=0.3, high=2.0)
INSIDE = spread(3, 4, low=-0.9, high=0.9)
ABOVE_ONE = spread(3, 4, low=1.2, high=3.0)

UNARY = {
    **dict.fromkeys(
        (
            *("Abs", "Neg", "Exp", "Sin", "Cos", "Sinh", "Cosh", "Tanh", "Atan", "Asinh", "Erf"),
            *("Relu", "LeakyRelu", "Elu", "Celu", "Selu", "ThresholdedRelu", "HardSigmoid"),
            *("HardSwish", "Sigmoid", "Softplus", "Softsign", "Mish", "Gelu", "Identity"),
            *("Softmax", "LogSoftmax", "Transpose", "Flatten", "Floor", "Ceil", "Round", "Sign"),
        ),
        X,
    ),
    **dict.fromkeys(("Sqrt", "Log", "Reciprocal", "Tan"), POSITIVE / 2),
    **dict.fromkeys(("Acos", "Asin", "Atanh"), INSIDE),
    "Acosh": ABOVE_ONE,
}

TABLE = {
    **{name: (name, [x], {}) for name, x in UNARY.items()},
    **{name: (name, [X, POSITIVE[0]], {}) for name in ("Add", "Sub", "Mul", "Div", "Max", "Min")},
    **{
        f"Reduce{name}": (f"Reduce{name}", [POSITIVE, integers(1)], {"keepdims": 0})
        for name in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum")
    },
    "ReduceSumSquare": ("ReduceSumSquare", [X, integers(-1)], {}),
    "Gelu-tanh": ("Gelu", [X], {"approximate": "tanh"}),
    "Clip": ("Clip", [X, np.asarray(-1.0), np.asarray(1.03)], {}),
    "PRelu": ("PRelu", [X, POSITIVE[0]], {}),
    "Shrink": ("Shrink", [X], {"lambd": 0.5, "bias": 0.2}),
    "Mean": ("Mean", [X, POSITIVE, X], {}),
    "Sum": ("Sum", [X, POSITIVE, X], {}),
    "Mod": ("Mod", [X, ABOVE_ONE], {"fmod": 1}),
    "Pow-square": ("Pow", [X, np.asarray(2.0)], {}),
    "Pow-third": ("Pow", [POSITIVE, np.asarray(1 / 3)], {}),
    "Pow-both": ("Pow", [POSITIVE, X], {}),
    "Where": ("Where", [X > 0, X, POSITIVE], {}),
    "MatMul": ("MatMul", [X, X.T.copy()], {}),
    "Gemm": ("Gemm", [X, X, POSITIVE[:, :3]], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    "Einsum": ("Einsum", [X, POSITIVE], {"equation": "ij, kj -> ik"}),
    "Concat": ("Concat", [X, POSITIVE], {"axis": -1}),
    "Slice": ("Slice", [X, integers(3), integers(-9), integers(1), integers(-2)], {}),
    "Pad-constant": ("Pad", [X, integers(1, 0, -1, 2), np.asarray(0.5)], {}),
    "Pad-reflect": ("Pad", [X, integers(1, 0, 0, 2)], {"mode": "reflect"}),
    "Pad-edge": ("Pad", [X, integers(1, 0, 0, 2)], {"mode": "edge"}),
    "Pad-wrap": ("Pad", [X, integers(1, 0, 0, 2)], {"mode": "wrap"}),
    "Expand": ("Expand", [X, integers(2, 1, 4)], {}),
    "Tile": ("Tile", [X, integers(2, 3)], {}),
    "Reshape": ("Reshape", [X, integers(2, -1)], {}),
    "Gather": ("Gather", [X, integers(2, -1, 2)], {"axis": 1}),
    "GatherElements": ("GatherElements", [X, integers(2, 0, 2, -1).reshape(1, 4)], {"axis": 0}),
    "GatherND": ("GatherND", [X, integers(2, 0, 1, -1).reshape(2, 2)], {}),
    "ScatterElements": (
        "ScatterElements",
        [X, integers(1, 0, 2, 1).reshape(1, 4), POSITIVE[:1]],
        {"reduction": "add"},
    ),
    "ScatterND": ("ScatterND", [X, integers(2, 0).reshape(2, 1), POSITIVE[:2]], {}),
    "ScatterND-mul": (
        "ScatterND",
        [X, integers(2, 0).reshape(2, 1), POSITIVE[:2]],
        {"reduction": "mul"},
    ),
    "Trilu": ("Trilu", [X, integers(1).reshape(())], {}),
    "CumSum": ("CumSum", [X, integers(1)], {"exclusive": 1, "reverse": 1}),
    "TopK": ("TopK", [X, integers(2)], {}),
    "Det": ("Det", [spread(2, 3, 3)], {}),
    "Attention": ("Attention", [spread(1, 2, 3, 4), spread(1, 2, 5, 4), spread(1, 2, 5, 4)], {}),
}


def model_of(operator, inputs, attributes, n_outputs=1):
    """One node; what holds no floats is a constant of the model."""
    names = [f"x{i}" for i in range(len(inputs))]
    outputs = [f"y{i}" for i in range(n_outputs)]
    node = helper.make_node(operator, names, outputs, **attributes)
    traced = {n: x for n, x in zip(names, inputs, strict=True) if x.dtype.kind == "f"}
    graph = helper.make_graph(
        [node],
        "test",
        [helper.make_tensor_value_info(n, 11, x.shape) for n, x in traced.items()],
        [helper.make_tensor_value_info(outputs[0], 11, [None])],
        [
            numpy_helper.from_array(x, n)
            for n, x in zip(names, inputs, strict=True)
            if n not in traced
        ],
    )
    opset = 23 if operator == "Attention" else OPSET
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return load(model), [jnp.asarray(x) for x in traced.values()]


def numeric_gradient(fn, x, step=1e-6):
    gradient = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        moved = np.array(x)
        moved[place] += step
        above = fn(moved)
        moved[place] -= 2 * step
        gradient[place] = (above - fn(moved)) / (2 * step)
    return gradient


@pytest.mark.parametrize("name", TABLE)
def test_gradient_equals_central_differences(name):
    operator, arrays, attributes = TABLE[name]
    model, inputs = model_of(operator, arrays, attributes, 2 if operator == "TopK" else 1)
    (shape,) = {y.shape for y in jax.eval_shape(model.apply, model.params, *inputs)}
    weights = RNG.normal(size=shape)

    @jax.jit
    def score(*xs):
        return jnp.vdot(weights, model.apply(model.params, *xs)[0])

    gradients = jax.grad(score, argnums=tuple(range(len(inputs))))(*inputs)
    for position, gradient in enumerate(gradients):

        def along(x, position=position):
            return float(score(*inputs[:position], x, *inputs[position + 1 :]))

        expected = numeric_gradient(along, np.asarray(inputs[position]))
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("operator", "attributes", "at", "slope"),
    [
        ("Relu", {}, 0.0, 0.0),
        ("LeakyRelu", {"alpha": 0.25}, 0.0, 0.25),
        ("ThresholdedRelu", {"alpha": 1.0}, 1.0, 0.0),
        ("Elu", {"alpha": 0.5}, 0.0, 0.5),
        ("Celu", {"alpha": 2.0}, 0.0, 1.0),
        ("HardSigmoid", {"alpha": 0.25}, -2.0, 0.0),
        ("HardSigmoid", {"alpha": 0.25}, 2.0, 0.0),
        ("HardSwish", {}, -3.0, 0.0),
        ("HardSwish", {}, 3.0, 1.0),
        ("Shrink", {"lambd": 0.5}, 0.5, 0.0),
        ("Abs", {}, 0.0, 0.0),
        ("Sign", {}, 0.0, 0.0),
        ("Round", {}, 0.5, 0.0),
        ("Floor", {}, 1.0, 0.0),
        ("Ceil", {}, 1.0, 0.0),
        ("ReduceL2", {}, 0.0, 0.0),
    ],
)
def test_slope_at_a_kink(operator, attributes, at, slope):
    model, _ = model_of(operator, [np.zeros(1)], attributes)
    got = jax.grad(lambda x: model.apply(model.params, x)[0].sum())(jnp.asarray([at]))
    assert got == pytest.approx([slope])


@pytest.mark.parametrize("at", [-1.0, 1.0])
def test_clip_has_slope_0_at_its_bounds(at):
    model, inputs = model_of("Clip", [np.zeros(1), np.asarray(-1.0), np.asarray(1.0)], {})
    got = jax.grad(lambda x: model.apply(model.params, x, *inputs[1:])[0].sum())(jnp.asarray([at]))
    assert got == 0


def test_prelu_has_the_negative_slope_at_0():
    model, inputs = model_of("PRelu", [np.zeros(1), np.full(1, 0.3)], {})
    got = jax.grad(lambda x: model.apply(model.params, x, inputs[1])[0].sum())(inputs[0])
    assert got == pytest.approx([0.3])


@pytest.mark.parametrize("operator", ["Max", "Min"])
def test_ties_share_the_gradient(operator):
    model, inputs = model_of(operator, [np.ones(1), np.ones(1)], {})
    got = jax.grad(lambda *x: model.apply(model.params, *x)[0].sum(), argnums=(0, 1))(*inputs)
    assert np.ravel(got) == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("operator", ["Elu", "Selu", "Celu", "Softplus", "Mish", "Gelu", "Sigmoid"])
def test_gradient_far_out_is_finite(operator):
    model, _ = model_of(operator, [np.zeros(2)], {})
    got = jax.grad(lambda x: model.apply(model.params, x)[0].sum())(jnp.asarray([-1e4, 1e4]))
    assert np.isfinite(got).all()


@pytest.mark.parametrize("operator", ["Relu", "LeakyRelu", "HardSigmoid", "Softmax", "Elu"])
def test_nan_stays_nan(operator):
    model, _ = model_of(operator, [np.zeros(1)], {})
    (got,) = model.apply(model.params, jnp.asarray([jnp.nan]))
    assert np.isnan(got).all()


@pytest.mark.parametrize(
    ("a", "b", "quotient"), [(7, 2, 3), (-7, 2, -3), (7, -2, -3), (-7, -2, 3), (6, -2, -3)]
)
@pytest.mark.parametrize("static", [True, False])
def test_integer_division_cuts_towards_zero(a, b, quotient, static):
    node = helper.make_node("Div", ["a", "b"], ["c"])
    values = [helper.make_tensor_value_info(name, 7, [1]) for name in "abc"]
    graph = helper.make_graph([node], "test", values[:2], values[2:])
    model = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)]))
    inputs = [integers(a), integers(b)]
    (got,) = model.apply({}, *(inputs if static else map(jnp.asarray, inputs)))
    assert got == quotient


def test_pads_and_crops_of_any_number_of_images():
    def padded(x):
        return pad_11(jnp, x, np.asarray([0, 0, 1, -1, 0, 0, 2, -2]))

    shape = jax.export.symbolic_shape("N, 2, 3, 5")
    exported = jax.export.export(jax.jit(padded))(jax.ShapeDtypeStruct(shape, np.float32))
    x = np.arange(60, dtype=np.float32).reshape(2, 2, 3, 5)
    expected = np.pad(x[..., 1:-2], [(0, 0), (0, 0), (1, 2), (0, 0)])
    np.testing.assert_array_equal(exported.call(x), expected)
