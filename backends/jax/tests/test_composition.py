"""Methods inside of the user's own JAX program: `xaimaps_jax.function`."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from xaimaps_jax import function

import xaimaps
from xaimaps.errors import (
    ArrayInputError,
    BackendError,
    MethodError,
    ModelLoadError,
    TargetError,
)
from xaimaps.methods import Maps

SHAPE = (8, 8, 2)
random = np.random.default_rng(0)
PARAMS = {
    "kernel": random.normal(size=(3, 3, 2, 4)).astype(np.float32),
    "dense": random.normal(size=(4, 5)).astype(np.float32),
}
IMAGES = random.normal(size=(3, *SHAPE)).astype(np.float32)
LABELS = np.array([0, 4, 2])


def features(params, x):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jnp.tanh(
        jax.lax.conv_general_dilated(x, params["kernel"], (1, 1), "SAME", None, None, dimensions)
    )


def head(params, y):
    return (y**2).mean((1, 2)) @ params["dense"]


def network(params, x):
    with jax.named_scope("features"):
        y = features(params, x)
    return head(params, y)


def by_hand(params, x, labels):
    """Grad-CAM as a JAX user writes it."""
    y = features(params, x)
    outputs, pull = jax.vjp(lambda y: head(params, y), y)
    (slope,) = pull(jax.nn.one_hot(labels, outputs.shape[1], dtype=outputs.dtype))
    return jax.nn.relu((slope.mean((1, 2), keepdims=True) * y).sum(-1))


def load(params=PARAMS, **options):
    return xaimaps.load(network, params=params, input_shape=SHAPE, **options)


@pytest.fixture(scope="module")
def grad_cam():
    return function(load(), layer="features")


def close(found, expected, tolerance=1e-5):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


def test_eager_and_compiled_are_the_formula(grad_cam):
    expected = by_hand(PARAMS, IMAGES, LABELS)
    for run in (grad_cam, jax.jit(grad_cam)):
        found = run(PARAMS, IMAGES, jnp.asarray(LABELS))
        assert isinstance(found.maps, jax.Array)
        close(found.maps, expected)
        close(found.outputs, network(PARAMS, IMAGES))


def test_other_parameters_are_used(grad_cam):
    others = jax.tree.map(lambda weights: weights * 2, PARAMS)
    close(grad_cam(others, IMAGES, LABELS).maps, by_hand(others, IMAGES, LABELS))


def test_vmap_over_targets_and_images(grad_cam):
    every = jnp.arange(5)
    found = jax.jit(jax.vmap(lambda label: grad_cam(PARAMS, IMAGES, label).maps))(every)
    close(found, np.stack([by_hand(PARAMS, IMAGES, jnp.full(3, label)) for label in every]))
    single = jax.vmap(lambda x, label: grad_cam(PARAMS, x[None], label).maps[0])
    close(jax.jit(single)(IMAGES, LABELS), by_hand(PARAMS, IMAGES, LABELS))


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients", "cam", "fullgrad"])
def test_other_methods_are_that_of_attribute(method):
    def pooled(params, x):
        return features(params, x).mean((1, 2)) @ params["dense"]

    model = xaimaps.load(pooled, params=PARAMS, input_shape=SHAPE)
    expected = xaimaps.attribute(model, IMAGES, method, target=1)
    found = jax.jit(function(model, method))(PARAMS, IMAGES, jnp.array(1))
    close(found.maps, expected.maps)


def test_wrappers_and_several_targets_are_those_of_attribute():
    goal = xaimaps.several(1, 3)
    model = load()
    expected = xaimaps.attribute(model, IMAGES, target=goal, augment="flip", layer="features")
    found = function(model, augment="flip", layer="features")(PARAMS, IMAGES, goal)
    close(np.moveaxis(found.maps, 0, 1), expected.maps)


def test_the_gradient_of_a_loss_with_maps_is_that_of_finite_differences():
    with jax.enable_x64(True):
        params = jax.tree.map(lambda weights: jnp.asarray(weights, jnp.float64), PARAMS)
        images, mask = IMAGES.astype(np.float64), jnp.asarray(random.uniform(size=(8, 8)))
        explain = function(load(), layer="features", relu=False)

        @jax.jit
        def loss(params):
            found = explain(params, images, LABELS)
            own = jnp.take_along_axis(found.outputs, LABELS[:, None], 1).mean()
            return own + (found.maps**2 * mask).mean()

        gradient = jax.grad(loss)(params)
        direction = jax.tree.map(lambda weights: random.normal(size=weights.shape), params)
        products = jax.tree.map(lambda a, b: (a * b).sum(), gradient, direction)

        def moved(step):
            return loss(jax.tree.map(lambda a, b: a + step * b, params, direction))

        step = 1e-5
        expected = (moved(step) - moved(-step)) / (2 * step)
        np.testing.assert_allclose(sum(jax.tree.leaves(products)), expected, rtol=1e-7)


SHARDED = """
import sys
sys.path.insert(0, sys.argv[1])
import jax, jax.numpy as jnp, numpy as np
import test_composition as t
explain = t.function(t.load(), layer="features")
images = np.random.default_rng(1).normal(size=(16, *t.SHAPE)).astype("f")
labels = jnp.arange(16) % 5
expected = t.by_hand(t.PARAMS, images, labels)
mesh = jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,))
place = jax.NamedSharding(mesh, jax.P("data"))
shared = jax.device_put((images, labels), place)
maps = jax.jit(lambda x, t_: explain(t.PARAMS, x, t_).maps)
specs = dict(mesh=mesh, in_specs=jax.P("data"), out_specs=jax.P("data"))
for run in (maps, jax.jit(jax.shard_map(maps, **specs))):
    found = run(*shared)
    assert len(found.sharding.device_set) == 8 and not found.sharding.is_fully_replicated
    t.close(found, expected, 1e-6)
"""


def test_a_batch_shared_among_devices():
    devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", SHARDED, str(Path(__file__).parent)],
        env={**os.environ, **devices},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("method", ["grad_cam", "saliency"])
def test_products_are_in_full_precision_and_no_flag_is_changed(method):
    before = jax.config.jax_default_matmul_precision
    explain = function(load(), method)
    text = str(jax.make_jaxpr(lambda p, x: explain(p, x, 1).maps)(PARAMS, IMAGES))
    precisions = re.findall(r" precision=(\(?[\w.]+)", text)
    assert precisions
    assert all("HIGHEST" in one for one in precisions)
    assert jax.config.jax_default_matmul_precision == before


def attributed(images=IMAGES, target=1, params=PARAMS):
    return xaimaps.attribute(load(params), images, target=target).maps


@pytest.mark.parametrize(
    "call",
    [
        lambda: jax.jit(attributed)(IMAGES),
        lambda: jax.jit(lambda: attributed())(),
        lambda: jax.jit(lambda label: attributed(target=label))(1),
        lambda: jax.vmap(lambda label: attributed(target=label))(LABELS),
        lambda: jax.grad(lambda x: attributed(x).sum())(IMAGES),
        lambda: jax.grad(lambda params: attributed(params=params).sum())(PARAMS),
        lambda: jax.jit(lambda x: xaimaps.explain(load(preprocess="unit"), x).maps)(IMAGES[0]),
    ],
    ids=["images", "nothing", "target", "vmap", "grad", "parameters", "explain"],
)
def test_attribute_inside_of_a_transformation_names_the_function(call):
    with pytest.raises(BackendError, match=r"must be called with values.*xaimaps_jax\.function"):
        call()


def in_numpy(backend, images, target):
    outputs = backend.forward(images)
    return Maps(np.asarray(images).sum(-1), outputs)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (MethodError, "'in_numpy' must compute", lambda: function(load(), in_numpy)),
        (MethodError, "has no option 'rely'", lambda: function(load(), rely=True)),
    ],
)
def test_methods_that_cannot_be_traced(error, message, call):
    with pytest.raises(error, match=message):
        jax.jit(lambda x: call()(PARAMS, x, 1).maps)(IMAGES)


def test_mistakes_in_the_arguments_of_the_function(grad_cam):
    with pytest.raises(ModelLoadError, match=r"structure of `model\.params`.*'dense'"):
        grad_cam({"kernel": PARAMS["kernel"]}, IMAGES, 1)
    with pytest.raises(ArrayInputError, match=r"shape \(N, 8, 8, 2\), got \(8, 8, 2\)"):
        grad_cam(PARAMS, IMAGES[0], 1)
    with pytest.raises(TargetError, match="a class from 0 to 4, got 5"):
        grad_cam(PARAMS, IMAGES, 5)
    with pytest.raises(TargetError, match="one entry for each of the 3 images"):
        grad_cam(PARAMS, IMAGES, jnp.array([1, 2]))


def operations(run, *arguments):
    """Return the number of operations, and of floating-point operations, of a compiled program."""
    compiled = jax.jit(run).lower(*arguments).compile()
    lines = re.findall(r"^\s+(?:ROOT )?%\S+ =", compiled.as_text(), re.MULTILINE)
    return len(lines), compiled.cost_analysis()["flops"]


@pytest.fixture
def resnets():
    """Return the module with one ResNet in every library."""
    for library in ("flax", "equinox", "haiku"):
        pytest.importorskip(library)
    return importlib.import_module("resnets")


@pytest.mark.parametrize("library", ["nnx", "equinox", "haiku"])
def test_parameters_are_in_the_form_of_the_library(library, resnets):
    p = resnets.weights()
    if library == "nnx":
        model = resnets.nnx_model(p)
        backend, params = xaimaps.load(model), resnets.nnx.state(model)
    elif library == "equinox":
        model = resnets.eqx_model(p)
        backend = xaimaps.load(model)
        params = (resnets.eqx.filter(model, resnets.eqx.is_array), None)
    else:
        params = resnets.haiku_variables(p)
        backend = xaimaps.load(resnets.hk.transform_with_state(resnets.haiku_network), params)
    images = np.ones((2, *resnets.SHAPE), np.float32)
    found = jax.jit(function(backend))(params, images, jnp.array(1)).outputs
    close(found, resnets.plain(p, images))


def test_a_module_of_linen_costs_what_the_formula_costs(resnets, monkeypatch):
    # The formula has XLA's own convolutions.
    monkeypatch.setattr("xaimaps_jax._operations.is_lowered", lambda *given: False)
    p = resnets.weights()
    images = np.ones((2, *resnets.SHAPE), np.float32)
    labels = jnp.array([1, 2])
    variables = resnets.linen_variables(p)
    model = xaimaps.load(resnets.LinenResNet(), variables)
    explain = function(model, layer="blocks_1")

    def own(p, x, labels):
        return explain(p, x, labels).maps

    def by_vjp(p, x, labels):
        y = resnets.features(p, x, until="blocks_1")
        _, pull = jax.vjp(lambda y: resnets.head(p, resnets.block(p["blocks_2"], y, 1)), y)
        (slope,) = pull(jax.nn.one_hot(labels, resnets.CLASSES))
        return jax.nn.relu((slope.mean((1, 2), keepdims=True) * y).sum(-1))

    found, cost = operations(own, variables, images, labels)
    expected, least = operations(by_vjp, p, images, labels)
    assert found <= 1.05 * expected
    assert cost <= 1.05 * least
