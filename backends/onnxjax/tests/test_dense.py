"""The input gradient of convolutions, by phases of the strides or by windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from onnxjax._ops.dense import convolved, dense

PADS = {"none": (0, 0), "uneven": (1, 2), "before": (3, 0)}


def assert_same_derivatives(draw, x, w, options):
    """Compare the gradient and its transpose with JAX's; return the gradient and a value for it."""
    fns = [lambda x, f=f: f(x, w, *options) for f in (dense, convolved)]
    (y, pull), (_, expected) = (jax.vjp(fn, x) for fn in fns)
    g, tangent = draw.normal(size=y.shape), draw.normal(size=x.shape)
    np.testing.assert_allclose(pull(g)[0], expected(g)[0], atol=1e-12)
    pushed = [jax.jvp(fn, (x,), (tangent,)) for fn in fns]
    np.testing.assert_allclose(pushed[0], pushed[1], atol=1e-12)
    return pull, g


@pytest.mark.parametrize("pads", PADS.values(), ids=PADS)
@pytest.mark.parametrize(
    ("sizes", "kernel", "strides"),
    [
        ((11,), (7,), (4,)),
        ((12, 9), (7, 7), (2, 2)),
        ((11, 12), (3, 4), (3, 1)),
        ((8, 9), (1, 2), (2, 3)),  # windows that do not overlap
        ((7, 6, 5), (3, 2, 3), (2, 2, 2)),
    ],
)
def test_the_gradient_and_its_transpose_are_those_of_jax(sizes, kernel, strides, pads):
    draw, rank, channels = np.random.default_rng(0), len(sizes), 2
    outputs = channels * np.prod(strides) + 1  # more than the phases, so that these are used
    options = strides, (pads,) * rank, (1,) * rank
    with jax.enable_x64(True):
        x = draw.normal(size=(8, *sizes, channels))  # more positions than outputs
        w = draw.normal(size=(*kernel, channels, outputs))
        assert_same_derivatives(draw, x, w, options)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("pads", PADS.values(), ids=PADS)
@pytest.mark.parametrize(
    ("sizes", "kernel", "strides"),
    [
        ((9,), (4,), (2,)),
        ((6, 7), (3, 3), (1, 1)),
        ((7, 8), (3, 2), (2, 1)),
        ((6, 5), (2, 2), (3, 2)),  # windows that do not overlap, and positions in none of them
        ((5, 6, 5), (2, 3, 2), (1, 2, 1)),
    ],
)
def test_the_sum_of_the_gradients_of_windows_is_that_of_jax(sizes, kernel, strides, pads, dilation):
    draw, rank = np.random.default_rng(0), len(sizes)
    options = strides, (pads,) * rank, (dilation,) * rank
    w = draw.normal(size=(*kernel, 3, 2))
    with jax.enable_x64(True):
        g = jax.eval_shape(lambda x: convolved(x, w, *options), np.zeros((2, *sizes, 3)))
        w = draw.normal(size=(*kernel, 3, 1 + np.prod(g.shape[:-1])))
        x = draw.normal(size=(2, *sizes, 3))
        pull, g = assert_same_derivatives(draw, x, w, options)
        assert "transpose" not in str(jax.make_jaxpr(pull)(g))


def test_windows_of_bfloat16_are_added_in_float32():
    draw = np.random.default_rng(0)
    x, w = (
        jnp.asarray(draw.normal(size=shape), jnp.bfloat16)
        for shape in [(1, 4, 4, 8), (3, 3, 8, 64)]
    )

    def gradient(x, w):
        y, pull = jax.vjp(lambda x: dense(x, w, (1, 1), ((1, 1),) * 2, (1, 1)), x)
        return pull(jnp.ones_like(y))[0]

    exact = gradient(x.astype(jnp.float32), w.astype(jnp.float32))
    np.testing.assert_array_equal(gradient(x, w), exact.astype(jnp.bfloat16))


@pytest.mark.parametrize(
    ("channels", "strides"), [(3, (2, 2)), (8, (1, 1))], ids=["phases", "windows"]
)
def test_export_for_any_number_of_images(channels, strides):
    w = np.random.default_rng(0).normal(size=(3, 3, channels, 64)).astype(np.float32)
    x = np.random.default_rng(1).normal(size=(2, 5, 5, channels)).astype(np.float32)

    def gradient(x, fn=dense):
        return jax.grad(lambda x: (fn(x, w, strides, ((1, 1),) * 2, (1, 1)) ** 2).sum())(x)

    shape = jax.export.symbolic_shape(f"N, 5, 5, {channels}")
    exported = jax.export.export(jax.jit(gradient))(jax.ShapeDtypeStruct(shape, x.dtype))
    np.testing.assert_allclose(exported.call(x), gradient(x, convolved), rtol=1e-4, atol=1e-4)


def test_no_zeros_are_between_the_positions():
    x, w = np.zeros((1, 16, 16, 3), np.float32), np.zeros((7, 7, 3, 64), np.float32)

    def pulled(x):
        y, pull = jax.vjp(lambda x: dense(x, w, (2, 2), ((3, 3),) * 2, (1, 1)), x)
        return pull(y)

    program = str(jax.make_jaxpr(pulled)(x))
    assert "lhs_dilation=(1, 1)" in program
    assert "lhs_dilation=(2, 2)" not in program
