"""Convolutions of JAX functions: the values and derivatives of XLA's own, in every form."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from onnxjax._ops import platforms
from xaimaps_jax import _convolution

FORMS = {
    "depthwise": ((3, 3), {"feature_group_count": 6}),
    "depthwise, strides": ((3, 3), {"feature_group_count": 6, "window_strides": (2, 2)}),
    "depthwise, dilated": ((3, 3), {"feature_group_count": 6, "rhs_dilation": (2, 1)}),
    "two outputs each": ((3, 3), {"feature_group_count": 6, "outputs": 12}),
    "grouped": ((3, 2), {"feature_group_count": 2, "outputs": 4}),
    "1x1": ((1, 1), {"padding": "VALID"}),
    "1x1, strides": ((1, 1), {"window_strides": (2, 3), "padding": "VALID"}),
    "patches": ((4, 4), {"window_strides": (4, 4), "padding": "VALID"}),
    "strides": ((3, 3), {"window_strides": (2, 2)}),
    "uneven pads": ((3, 3), {"padding": ((0, 2), (1, 0))}),
    "negative pads": ((3, 3), {"padding": ((-1, 2), (1, 0))}),
    "transposed": ((3, 3), {"lhs_dilation": (2, 2)}),
}
ORDERS = ["NHWC HWIO NHWC", "NCHW OIHW NCHW", "NCHW HWIO NHWC", "CHWN IHWO HWNC"]


def convolution(kernel, order, outputs=6, window_strides=(1, 1), padding="SAME", **rest):
    """Return a function of images and weights, and a map and weights for it."""
    sizes = {"N": 2, "C": 6, "H": 13, "W": 12, "O": outputs}
    sizes["I"] = 6 // rest.get("feature_group_count", 1)
    maps, weights, result = order.split()
    draw = np.random.default_rng(0).normal
    x = draw(size=[sizes[axis] for axis in maps])
    w = draw(size=[{**sizes, "H": kernel[0], "W": kernel[1]}[axis] for axis in weights])
    numbers = (maps, weights, result)
    if rest.get("lhs_dilation"):
        padding = ((1, 1), (1, 1))

    def run(x, w):
        return lax.conv_general_dilated(
            x, w, window_strides, padding, dimension_numbers=numbers, **rest
        )

    return run, x, w


@functools.partial(jax.jit, static_argnums=0)
def with_gradients(run, x, w):
    """Return a function's result and gradients, for a seed that differs between elements."""
    y, pull = jax.vjp(run, x, w)
    return y, *pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))


def lowered(run, *arrays):
    """Return how this backend runs a function's only equation, or None if it is left to XLA."""
    (equation,) = jax.make_jaxpr(run)(*arrays).jaxpr.eqns
    if not _convolution.is_lowered(*arrays, equation.params):
        return None
    return lambda x, w: _convolution.convolved(x, w, equation.params)


CASES = [*itertools.product(FORMS, ORDERS[:1]), *itertools.product(["strides"], ORDERS[1:])]
CASES += [("depthwise", order) for order in ORDERS[1:]]


@pytest.mark.parametrize(("form", "order"), CASES)
def test_values_and_gradients_are_those_of_xla(form, order):
    kernel, options = FORMS[form]
    with jax.enable_x64(True):
        run, x, w = convolution(kernel, order, **options)
        own = lowered(run, x, w)
        assert (own is None) == (form in ("negative pads", "transposed"))
        for one, other in zip(
            with_gradients(own or run, x, w), with_gradients(run, x, w), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_a_gpu_computes_only_disjoint_windows_by_products(form, monkeypatch):
    monkeypatch.setitem(platforms.BY_PLATFORM, "cpu", platforms.BY_PLATFORM["gpu"])
    kernel, options = FORMS[form]
    with jax.enable_x64(True):
        run, x, w = convolution(kernel, ORDERS[0], **options)
        own = lowered(run, x, w)
        assert (own is not None) == (form == "patches")
        for one, other in zip(
            with_gradients(own or run, x, w), with_gradients(run, x, w), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_integers_are_left_to_xla():
    run, x, w = convolution(*FORMS["1x1"][:1], ORDERS[0])
    assert lowered(run, x.astype(np.int32), w.astype(np.int32)) is None
