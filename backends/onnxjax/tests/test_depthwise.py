"""The depthwise convolution of CPUs equals XLA's own, through every transformation of JAX."""

import functools
import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from onnxjax._ops import depthwise as depthwise_module
from onnxjax._ops.depthwise import depthwise

RNG = np.random.default_rng(5)

CASES = {
    "1d": ((3, 11, 4), (3, 4), (2,), ((1, 0),), (2,)),
    "plain": ((2, 7, 6, 4), (3, 3, 4), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    "strided": ((2, 8, 7, 4), (3, 2, 4), (2, 3), ((2, 1), (0, 2)), (1, 1)),
    "dilated": ((2, 9, 9, 3), (3, 2, 3), (1, 2), ((0, 0), (3, 1)), (2, 3)),
    "3d": ((2, 4, 5, 6, 2), (2, 3, 2, 2), (2, 1, 1), ((1, 0), (1, 1), (0, 1)), (1, 1, 2)),
    "3d, strided": ((2, 6, 5, 6, 2), (3, 2, 2, 2), (2, 1, 3), ((1, 0), (0, 1), (1, 1)), (1, 1, 1)),
}


def own(x, w, strides, pads, dilations):
    """XLA's own convolution, of one input channel for each output."""
    axes = (0, x.ndim - 1, *range(1, x.ndim - 1))
    return lax.conv_general_dilated(
        x,
        w[..., None, :],
        strides,
        pads,
        rhs_dilation=dilations,
        feature_group_count=x.shape[-1],
        dimension_numbers=lax.ConvDimensionNumbers(
            axes, (x.ndim - 1, x.ndim - 2, *range(x.ndim - 2)), axes
        ),
        precision="highest",
    )


@pytest.fixture(params=CASES)
def pair(request):
    """Ours, XLA's, maps and kernels."""
    shape, kernel, *attributes = CASES[request.param]
    fixed = {
        name: tuple(value)
        for name, value in zip(("strides", "pads", "dilations"), attributes, strict=True)
    }
    ours, theirs = functools.partial(depthwise, **fixed), functools.partial(own, **fixed)
    return ours, theirs, RNG.normal(size=shape), RNG.normal(size=kernel)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def assert_same(transform, pair):
    ours, theirs, *values = pair
    got, expected = (jax.jit(transform(fn))(*values) for fn in (ours, theirs))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), got, expected
    )


def test_values(pair):
    assert_same(lambda fn: fn, pair)
    ours, theirs, *values = pair
    np.testing.assert_allclose(ours(*values), theirs(*values), rtol=1e-12, atol=1e-12)


def sum_of_cubes(fn):
    return lambda x, w: jnp.sum(fn(x, w) ** 3)


def gradients(fn):
    return jax.grad(sum_of_cubes(fn), (0, 1))


def test_forward_and_reverse_mode(pair):
    *_, x, w = pair
    assert_same(gradients, pair)
    assert_same(lambda fn: jax.jacfwd(sum_of_cubes(fn), (0, 1)), pair)
    assert_same(lambda fn: lambda *at: jax.jvp(gradients(fn), at, (x + 1, w - 1)), pair)


@pytest.mark.parametrize("axes", [(0, None), (None, 1), (1, 0), (-1, -1)])
def test_vmap(pair, axes):
    *both, x, w = pair
    values = (
        value if axis is None else jnp.stack([value, 2 - value, value**2], axis)
        for value, axis in zip((x, w), axes, strict=True)
    )
    several = (*both, *values)
    assert_same(lambda fn: jax.vmap(fn, axes), several)
    assert_same(lambda fn: jax.vmap(gradients(fn), axes), several)
    assert_same(lambda fn: gradients(jax.vmap(fn, axes)), several)


def test_export(pair):
    assert_same(lambda fn: jax.export.export(jax.jit(fn))(*pair[2:]).call, pair)


def test_export_for_any_number_of_images(pair):
    ours, theirs, x, w = pair
    anything = jax.export.symbolic_shape(f"images, {', '.join(map(str, x.shape[1:]))}")
    spec = jax.ShapeDtypeStruct(anything, x.dtype)
    exported = jax.export.export(jax.jit(lambda x: jax.grad(sum_of_cubes(ours))(x, w)))(spec)
    np.testing.assert_allclose(
        exported.call(x), jax.grad(sum_of_cubes(theirs))(x, w), rtol=1e-12, atol=1e-12
    )


def test_images_shared_among_devices(pair):
    automatic = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((jax.device_count(),), ("device",), automatic)
    specs = (jax.P("device"), jax.P())
    *both, x, w = pair
    several = (*both, jnp.concatenate([x] * jax.device_count()), w)
    assert_same(
        lambda fn: jax.shard_map(gradients(fn), mesh=mesh, in_specs=specs, out_specs=specs), several
    )


def test_every_program_shares_the_trace_of_a_shape(monkeypatch):
    sizes = []

    def noted(x, *rest):
        sizes.append(x.shape)
        return shifted_products(x, *rest)

    shifted_products = depthwise_module._shifted_products
    monkeypatch.setattr(depthwise_module, "_shifted_products", noted)
    x, w = RNG.normal(size=(1, 13, 5)), RNG.normal(size=(3, 5))  # a shape of no other test
    ours = functools.partial(depthwise, strides=(1,), pads=((1, 1),), dilations=(1,))
    jax.jit(gradients(ours))(x, w)
    assert x.shape in sizes
    sizes.clear()
    jax.jit(gradients(lambda x, w: ours(x + 1, w)))(x, w)
    assert sizes == []


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="only XLA for CPU is kept from it")
def test_the_backward_pass_does_not_compute_the_convolution_again():
    x, w = RNG.normal(size=(1, 6, 6, 8)), RNG.normal(size=(3, 3, 8))
    fixed = {"strides": (1, 1), "pads": ((1, 1), (1, 1)), "dilations": (1, 1)}

    def score(x):
        y = 2 * depthwise(x, w, **fixed) + 1
        return jnp.sum(jnp.where(y <= 0, 0, y) @ jnp.ones((8, 8)))

    program = jax.jit(jax.value_and_grad(score)).lower(x).compile().as_text()
    products = program.count(" multiply(")
    # Nine in each direction and a few by 2; a convolution that is computed again adds nine.
    assert 18 <= products < 18 + 9


def test_no_zeros_are_between_the_positions_of_a_strided_gradient():
    def pulled(x, w):
        y, pull = jax.vjp(lambda x: depthwise(x, w, (2, 2), ((1, 1),) * 2, (1, 1)), x)
        return pull(y)

    program = jax.jit(pulled).lower(jnp.zeros((1, 8, 8, 4)), jnp.ones((3, 3, 4))).as_text()
    assert set(re.findall(r"interior = \[(.*?)\]", program)) == {"0, 0, 0, 0"}
