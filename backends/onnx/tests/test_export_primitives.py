"""JAX's primitives as nodes of ONNX: what ONNX Runtime computes with them is what JAX does."""

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from onnx import helper
from xaimaps_onnx.export._primitives import NoRowError, whole, written
from xaimaps_onnx.export._traced import Recorder, Traced

BATCH = 113
QUICK = settings(max_examples=12, deadline=None, derandomize=True)


def model_of(fn, arrays, opset, batch):
    """Return the model of a function, traced for BATCH images if their number is free."""
    write = Recorder(opset, BATCH if batch else None, "x0")
    shapes = [(BATCH if n == batch else n for n in one.shape) for one in arrays]
    structs = [
        jax.ShapeDtypeStruct(tuple(shape), one.dtype)
        for shape, one in zip(shapes, arrays, strict=True)
    ]
    closed = jax.make_jaxpr(fn)(*structs)
    inputs = [Traced(write, f"x{i}", one.shape, one.dtype) for i, one in enumerate(structs)]
    made = written(write, closed.jaxpr, list(map(np.asarray, closed.consts)), inputs)
    results = [write.constant(whole(write, one)) for one in made]
    assert [one.shape for one in results] == [one.shape for one in closed.out_avals]
    kinds = [helper.np_dtype_to_tensor_dtype(one.dtype) for one in arrays]
    declared = [
        helper.make_tensor_value_info(one.name, kind, [None] * one.ndim)
        for one, kind in zip(inputs, kinds, strict=True)
    ]
    ends = [onnx.ValueInfoProto(name=one.name) for one in results]
    graph = helper.make_graph(write.nodes, "g", declared, ends, write.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def check(fn, *arrays, opset=18, batch=None, tolerance=1e-5):
    """Compare a function in ONNX Runtime with JAX; sizes equal to `batch` are that of the batch."""
    session = onnxruntime.InferenceSession(
        model_of(fn, arrays, opset, batch).SerializeToString(),
        providers=["CPUExecutionProvider"],
    )
    found = session.run(None, {f"x{i}": one for i, one in enumerate(arrays)})
    with jax.default_matmul_precision("highest"):
        expected = jax.tree.leaves(fn(*map(jnp.asarray, arrays)))
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


X = drawn(5, 3, 4)
ELEMENTWISE = [
    *(jnp.abs, jnp.sign, jnp.exp, jnp.tanh, lax.logistic, lax.erf, lax.erfc, jnp.floor, jnp.ceil),
    *(jnp.sin, jnp.cos, jnp.tan, jnp.arctan, jnp.sinh, jnp.cosh, jnp.arcsinh, jnp.expm1, jnp.cbrt),
    *(jnp.square, jnp.exp2, jnp.round, jnp.isfinite, jnp.negative),
    *(lambda x: jnp.log1p(x * x), lambda x: lax.rsqrt(x * x + 1), lambda x: jnp.sqrt(x * x)),
    *(lambda x: x**3, lambda x: x**-2, lambda x: x**7, lambda x: jnp.arcsin(jnp.tanh(x))),
    *(lambda x: jnp.maximum(x, 0.5) + jnp.minimum(x, x * x) / 2, lambda x: lax.rem(x, x * x + 1)),
    *(lambda x: jnp.power(jnp.abs(x), x), lambda x: jnp.clip(x, -0.5, 0.5)),
    *(lambda x: jnp.where((x > 0) & ~(x >= 1) | (x < -1), x, 0.0), lambda x: (x != 0) ^ (x <= 1)),
    *(lambda x: lax.select_n(jnp.int32(x > 0) + jnp.int32(x > 1), x, 2 * x, 3 * x),),
    *(lambda x: x.astype(jnp.int32), lambda x: jnp.floor(x) == x),
]


@pytest.mark.parametrize("fn", ELEMENTWISE)
def test_functions_of_single_elements(fn):
    check(fn, X, tolerance=2e-5)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize(
    "fn",
    [
        *(lambda x: jnp.sum(x, 1), lambda x: jnp.max(x, (0, 2)), lambda x: jnp.min(x, -1)),
        *(lambda x: jnp.prod(x, 2), lambda x: jnp.argmax(x, 1), lambda x: jnp.argmin(x, -1)),
        *(lambda x: jnp.all(x > 0, 1), lambda x: jnp.any(x > 1, 2), lambda x: jnp.cumsum(x, 1)),
        *(lambda x: lax.cumsum(x, 2, reverse=True), lambda x: jax.nn.softmax(x, axis=1)),
        *(lambda x: jnp.var(x, 1, keepdims=True), lambda x: jax.nn.log_softmax(x)),
    ],
)
def test_reductions(fn, opset):
    check(fn, X, opset=opset)


@pytest.mark.parametrize("opset", [13, 21])
@pytest.mark.parametrize(
    "fn",
    [
        *(lambda x: x.reshape(x.shape[0], -1), lambda x: x.reshape(-1), lambda x: x[:, None]),
        *(lambda x: jnp.transpose(x, (2, 0, 1)), lambda x: x[:, ::-1, 1:], lambda x: x[..., ::2]),
        *(lambda x: jnp.broadcast_to(x[:, :1], x.shape), lambda x: jnp.tile(x, (1, 2, 3))),
        *(lambda x: jnp.concatenate([x, x * 2], 1), lambda x: jnp.stack([x, x]).sum(0)),
        *(lambda x: jnp.split(x, 2, axis=2), lambda x: x + jnp.arange(4.0) + jnp.zeros_like(x)),
        *(lambda x: jnp.zeros_like(x), lambda x: lax.broadcasted_iota(jnp.int32, x.shape, 0)),
        *(lambda x: jnp.repeat(x, 2, axis=1), lambda x: jnp.matmul(x.reshape(-1, 4), jnp.eye(4))),
    ],
)
def test_shapes_with_any_batch(fn, opset):
    check(fn, X, opset=opset, batch=5)


EDGES = st.tuples(st.integers(-2, 3), st.integers(-2, 3), st.integers(0, 2))


@given(st.tuples(EDGES, EDGES, EDGES), st.sampled_from([0.0, 1.5]))
@QUICK
def test_borders_and_gaps(config, value):
    check(lambda x: lax.pad(x, jnp.float32(value), config), drawn(5, 6, 7))


@st.composite
def products(draw):
    """Two arrays, and which of their axes are stacks or summed."""
    stacks, summed, free, other = (draw(st.integers(0, 2)) for _ in range(4))
    sizes = {axis: draw(st.integers(1, 4)) for axis in range(stacks + summed)}
    x = [*sizes, *("x" for _ in range(free))]
    y = [*sizes, *("y" for _ in range(other))]
    x, y = draw(st.permutations(x)), draw(st.permutations(y))
    places = [[one.index(axis) for axis in sizes] for one in (x, y)]
    shapes = [[sizes.get(axis, 3) for axis in one] for one in (x, y)]
    numbers = (
        tuple(tuple(one[stacks:]) for one in places),
        tuple(tuple(one[:stacks]) for one in places),
    )
    return *(drawn(*shape) for shape in shapes), numbers


@given(products())
@QUICK
def test_products(case):
    x, y, numbers = case
    check(lambda x, y: lax.dot_general(x, y, numbers), x, y)


@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
    groups=st.sampled_from([1, 2, 4]),
)
@QUICK
def test_gradients_of_convolutions(kernel, strides, dilations, pads, groups):
    x, w = drawn(2, 4, 9, 8), drawn(8, 4 // groups, *kernel)

    def convolve(x, w):
        options = {"rhs_dilation": dilations, "feature_group_count": groups}
        return lax.conv_general_dilated(x, w, strides, pads, **options)

    g = drawn(*jax.eval_shape(convolve, x, w).shape, seed=1)
    check(lambda x, w, g: jax.vjp(lambda x: convolve(x, w), x)[1](g)[0], x, w, g, tolerance=1e-4)


@pytest.mark.parametrize("mode", ["fill", "clip", "wrap"])
@pytest.mark.parametrize("axis", [0, 2])
def test_indices(mode, axis):
    at = np.array([[0, 3], [2, 1]], np.int32)
    at = at + np.array([0, 9], np.int32)
    take = lambda x, at: jnp.take(x, at, axis=axis, mode=mode)  # noqa: E731
    check(take, drawn(4, 3, 4), at)
    g = drawn(*jax.eval_shape(take, drawn(4, 3, 4), at).shape)
    for opset in (13, 18):
        check(
            lambda x, at, g: jax.vjp(lambda x: take(x, at), x)[1](g)[0],
            drawn(4, 3, 4),
            at,
            g,
            opset=opset,
        )


def test_indices_of_stacks():
    at = np.random.default_rng(0).integers(0, 4, (5, 3, 2)).astype(np.int32)
    take = lambda x, at: jnp.take_along_axis(x, at, axis=-1)  # noqa: E731
    check(take, X, at, batch=5)
    check(
        lambda x, at, g: jax.vjp(lambda x: take(x, at), x)[1](g)[0], X, at, drawn(5, 3, 2), batch=5
    )


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (lambda x: jnp.sort(x), "the primitive 'sort'"),
        (lambda x: lax.scan(lambda c, v: (c, v), 0.0, x)[1], "the primitive 'scan'"),
        (lambda x: x + np.arange(BATCH, dtype=np.float32)[:, None, None], "depends on the batch"),
        (lambda x: x.astype(jnp.int32) & 3, "bits of integers"),
        (lambda x: lax.round(x), "halves away from zero"),
    ],
)
def test_what_is_not_written_is_named(fn, words):
    with pytest.raises(NoRowError, match=words):
        model_of(fn, [X], 18, 5)
