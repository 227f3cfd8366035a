"""Functions that call functions: taps, scans, remat, derivatives of their own, vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from xaimaps_jax import tap
from xaimaps_jax._tap import tap_all

import xaimaps
from xaimaps.errors import LayerError

SHAPE = (6, 6, 3)
IMAGES = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(4, 3, 3)).astype(np.float32)


def load(function):
    return xaimaps.load(function, WEIGHTS, input_shape=SHAPE)


def after(count, x=IMAGES):
    for kernel in WEIGHTS[:count]:
        x = jnp.tanh(x @ kernel)
    return x


def scanned(weights, x, **options):
    x, _ = jax.lax.scan(lambda x, kernel: (jnp.tanh(x @ kernel), None), x, weights, **options)
    return x.mean((1, 2))


def scanned_with_taps(weights, x):
    def step(x, kernel):
        return tap("blocks/out", jnp.tanh(tap("blocks/dense", x @ kernel))), x.mean()

    x, means = jax.lax.scan(step, x, weights)
    return x.mean((1, 2)) + 0 * means.sum()


def scanned_with_two_results(weights, x):
    """A module that also returns what it computed on the way."""

    def step(x, kernel):
        inner = tap("encoder/block/dense", x @ kernel)
        return tap_all("encoder/block", (jnp.tanh(inner), {"dense": inner}))

    x, _ = jax.lax.scan(step, x, weights)
    return x.mean((1, 2))


def backwards(weights, x):
    x, _ = jax.lax.scan(
        lambda x, kernel: (jnp.tanh(x @ kernel), None), x, weights[::-1], reverse=True
    )
    return x.mean((1, 2))


def counted(weights, x):
    body = lambda i, x: tap("blocks", jnp.tanh(x @ weights[i]))  # noqa: E731
    return jax.lax.fori_loop(0, 4, body, x).mean((1, 2))


@jax.custom_vjp
def through(weights, x):
    for index in range(4):
        x = tap(f"blocks/{index}", jnp.tanh(x @ weights[index]))
    return x


through.defvjp(lambda w, x: (through(w, x), (w, x)), lambda saved, g: (0 * saved[0], g))


def rematerialised(weights, x):
    for index in range(4):
        step = jax.checkpoint(lambda x, k, i=index: tap(f"blocks/{i}", jnp.tanh(x @ k)))
        x = step(x, weights[index])
    return x.mean((1, 2))


def vectorised(weights, x):
    def single(image):
        for index in range(4):
            image = tap(
                f"blocks/{index}", jnp.tanh(jnp.einsum("hwc,cd->dhw", image, weights[index]))
            )
            image = image.transpose(1, 2, 0)
        return image.mean((0, 1))

    return jax.vmap(single)(x)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (scanned, "scan[{}]"),
        (lambda w, x: scanned(w, x, unroll=2), "scan[{}]"),
        (scanned_with_taps, "blocks[{}]/out"),
        (scanned_with_two_results, "encoder/block[{}]"),
        (counted, "blocks[{}]"),
        (lambda w, x: through(w, x).mean((1, 2)), "blocks/{}"),
        (rematerialised, "blocks/{}"),
        (vectorised, "blocks/{}"),
        (jax.jit(jax.jit(rematerialised)), "blocks/{}"),
    ],
)
@pytest.mark.parametrize("index", [0, 2, 3])
def test_each_block_is_a_layer(function, name, index):
    model = load(function)
    value, rest = model.split(jnp.asarray(IMAGES), name.format(index))
    np.testing.assert_allclose(value, after(index + 1), atol=1e-6)
    np.testing.assert_allclose(rest(value), after(4).mean((1, 2)), atol=1e-6)

    def scores(value):
        for kernel in WEIGHTS[index + 1 :]:
            value = jnp.tanh(value @ kernel)
        return value.mean((1, 2))[:, 1].sum()

    found = jax.grad(lambda v: rest(v)[:, 1].sum())(value)
    np.testing.assert_allclose(found, jax.grad(scores)(after(index + 1)), atol=1e-6)


def test_iterations_of_a_reversed_scan_are_counted_along_its_arrays():
    value, rest = load(backwards).split(jnp.asarray(IMAGES), "scan[3]")
    np.testing.assert_allclose(value, after(1), atol=1e-6)
    np.testing.assert_allclose(rest(value), after(4).mean((1, 2)), atol=1e-6)


def test_a_cut_opens_only_what_it_needs():
    """The iterations before a layer stay one scan, and those behind it, which the rest repeats."""
    model = load(scanned)
    loops = {
        layer: str(jax.make_jaxpr(lambda x, k=layer: run(model, x, k))(IMAGES)).count("scan[")
        for layer in ("scan[0]", "scan[2]", "scan[3]", None)
    }
    assert loops == {"scan[0]": 2, "scan[2]": 3, "scan[3]": 1, None: 1}


def run(model, images, layer):
    if layer is None:
        return model.forward_with_activations(images, ())[0]
    value, rest = model.split(images, layer)
    return rest(value)


def test_a_derivative_of_its_own_is_kept_where_no_layer_is_wanted():
    found = xaimaps.attribute(load(lambda w, x: through(w, x).mean((1, 2))), IMAGES, "saliency")
    np.testing.assert_allclose(found.maps, 1 / 36, rtol=1e-5)  # its rule passes gradients unchanged


def test_a_tap_inside_of_a_loop_without_known_end_is_refused():
    def endless(weights, x):
        def step(x):
            return tap("inner", jnp.tanh(x @ weights[0]))

        return jax.lax.while_loop(lambda x: jnp.abs(x).max() > 0.5, step, x).mean((1, 2))

    with pytest.raises(LayerError, match="'inner' is inside a loop or condition"):
        load(endless).find_layer("inner")


def test_a_module_called_twice_has_two_layers():
    def twice(weights, x):
        return tap("block", jnp.tanh(tap("block", x @ weights[0]))).mean((1, 2))

    model = load(twice)
    assert [layer.name for layer in model.layers()] == ["block:0", "block:1"]
    with pytest.raises(
        LayerError, match="'block' is that of several layers; use one of 'block:0', 'block:1"
    ):
        model.find_layer("block")


def test_a_tap_compiles_to_nothing():
    def tapped(x):
        return tap("y", jnp.sin(tap("x", x)))

    texts = [
        jax.jit(fn).lower(IMAGES).compile().as_text().partition("ENTRY")[2].count(" = ")
        for fn in (tapped, jnp.sin)
    ]
    assert texts[0] == texts[1]
