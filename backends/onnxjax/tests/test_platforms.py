"""Convolutions as every platform computes them: the values and derivatives of XLA's own."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from onnxjax._ops import platforms
from onnxjax._ops.convolution import conv
from onnxjax._ops.deformable import conv_transpose

FORMS = {
    "3x3": ((6, 6, 3, 3), {"pads": [1, 1, 1, 1]}),
    "1x1": ((4, 6, 1, 1), {}),
    "1x1, strides": ((4, 6, 1, 1), {"strides": [2, 2]}),
    "depthwise": ((6, 1, 3, 3), {"group": 6, "strides": [2, 2]}),
    "strides": ((4, 6, 2, 2), {"strides": [3, 1]}),
    "patches": ((4, 6, 4, 4), {"strides": [4, 4]}),
    "patches with a border": ((4, 6, 4, 4), {"strides": [4, 4], "pads": [1, 0, 2, 3]}),
    "patches with gaps": ((4, 6, 2, 3), {"strides": [4, 5]}),
    "grouped patches": ((4, 3, 4, 4), {"strides": [4, 4], "group": 2}),
}
IMAGES = np.random.default_rng(0).normal(size=(2, 6, 13, 12))


def results(form):
    """Return the values and the derivatives by images and weights, for a varied seed."""
    shape, attributes = FORMS[form]
    weights = np.random.default_rng(1).normal(size=shape)

    return with_derivatives(lambda x, w: conv(jnp, x, w, **attributes), weights)


def with_derivatives(run, weights):
    y, pull = jax.vjp(run, jnp.asarray(IMAGES), jnp.asarray(weights))
    return y, *pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))


def convolutions_in(form):
    shape, attributes = FORMS[form]
    traced = jax.make_jaxpr(lambda x, w: conv(jnp, x, w, **attributes))
    return str(traced(IMAGES, np.ones(shape))).count("conv_general_dilated")


@pytest.fixture
def on(monkeypatch):
    """Return a function that makes this machine compute as a platform does."""
    return lambda platform: monkeypatch.setitem(
        platforms.BY_PLATFORM, "cpu", platforms.BY_PLATFORM.get(platform, platforms.XLA)
    )


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
@pytest.mark.parametrize("form", FORMS)
def test_every_platform_has_the_values_and_derivatives_of_xla(form, platform, on):
    with jax.enable_x64(True):
        on(platform)
        found = results(form)
        on("none")
        for one, other in zip(found, results(form), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("platform", "products"),
    [
        (
            "cpu",
            {
                "1x1",
                "1x1, strides",
                "depthwise",
                "strides",
                *(f for f in FORMS if f.startswith("patches")),
            },
        ),
        ("gpu", {form for form in FORMS if form.startswith("patches")}),
        ("tpu", set()),
    ],
)
def test_the_table_says_what_is_no_convolution_of_xla(platform, products, on):
    on(platform)
    assert {form for form in FORMS if not convolutions_in(form)} == products


TRANSPOSED = {
    "plain": ((6, 4, 3, 3), {"strides": [2, 1]}),
    "grouped": ((6, 2, 3, 2), {"strides": [2, 2], "group": 3, "pads": [1, 0, 1, 1]}),
    "dilated": ((6, 4, 3, 2), {"dilations": [2, 3], "output_padding": [0, 1], "strides": [1, 2]}),
    "depthwise": ((6, 1, 3, 3), {"group": 6, "dilations": [1, 2]}),
}


@pytest.mark.parametrize("form", TRANSPOSED)
def test_transposed_convolutions_of_doubles_are_plain_on_a_gpu(form, on):
    shape, attributes = TRANSPOSED[form]

    def run(x, w):
        return conv_transpose(jnp, x, w, **attributes)

    with jax.enable_x64(True):
        weights = np.random.default_rng(1).normal(size=shape)
        expected = with_derivatives(run, weights)
        on("gpu")
        found = with_derivatives(run, weights)
        traced = str(jax.make_jaxpr(run)(IMAGES, weights))
    assert {*re.findall(r"feature_group_count=(\d+)|rhs_dilation=(\S+)", traced)} == {
        ("1", ""),
        ("", "(1,"),
    }
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_another_runtime_gets_onnx_operations():
    with platforms.for_other_runtimes():
        assert platforms.lowering() == platforms.XLA
    assert platforms.lowering() == platforms.BY_PLATFORM[jax.default_backend()]


def test_an_input_gradient_on_a_cpu_does_not_relabel_the_channels_of_kernels(on):
    """In a loop, XLA for CPU takes its slowest algorithm for a kernel with swapped labels."""
    on("cpu")
    weights = np.ones((4, 6, 3, 3), np.float32)
    slope = jax.grad(lambda x: jnp.sin(conv(jnp, x, weights, strides=[1, 2])).sum())
    text = jax.jit(slope).lower(IMAGES.astype(np.float32)).as_text()
    assert text.count("x[0, 1, i, o]->") == 2
    assert "x[0, 1, o, i]->" not in text
