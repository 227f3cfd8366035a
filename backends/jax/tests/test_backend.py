"""The JAX backend against the numpy reference: every method, every way of writing a network."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xaimaps
from xaimaps._images.preprocess import PRESETS
from xaimaps.backend import INPUT
from xaimaps.errors import LayerError
from xaimaps.methods import METHODS
from xaimaps.targets import as_target, several
from xaimaps.testing import REFERENCE_METHODS, ReferenceBackend, one_conv_network, pooled_network

WAYS = ["onnx", "onnx channels last", "function"]
NETWORKS = {"captum": one_conv_network(), "pooled": pooled_network(channels=8)}
RAMP = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
IMAGES = {
    "captum": np.concatenate([RAMP, RAMP + 1, 2 * RAMP]),
    "pooled": np.random.default_rng(1).normal(size=(3, 9, 9, 3)).astype(np.float32),
}
TARGETS = [3, 0, 2]
PREPROCESS = {"captum": None, "pooled": PRESETS["unit"]}  # a preset has three channels
OPTIONS = {  # fewer draws; and noise is drawn in the space of pictures
    ("rise", "captum"): {"n_masks": 50},
    ("rise", "pooled"): {"n_masks": 50},
    ("sobol", "pooled"): {"n_designs": 4},
    ("lime", "captum"): {"probability": False},  # its classes are equal
    ("expected_gradients", "captum"): {"baseline": "zeros"},
}

# The conformance suite has the ONNX files of the pooled network.
PAIRS = [(way, "pooled") for way in WAYS if not way.startswith("onnx")] + [("onnx", "captum")]
UNABLE = {
    # Captum's network has no pooling.
    ("onnx", "captum"): {"classifier": LayerError},
}


@pytest.fixture(scope="module")
def built(build):
    """Each network in each way, made once."""
    found = {}
    for way in WAYS:
        for name, network in NETWORKS.items():
            found[way, name] = build(network, way)
            found[way, name].info.preprocess = PREPROCESS[name]
    return found


def reference(name):
    backend = ReferenceBackend(NETWORKS[name])
    backend.info.preprocess = PREPROCESS[name]
    return backend


def close(actual, desired, tolerance=1e-5):
    """Compare relative to the largest value."""
    size = max(float(np.abs(desired).max(initial=0)), 1e-9)
    np.testing.assert_allclose(actual, desired, rtol=0, atol=tolerance * size)


@pytest.mark.parametrize(("way", "network"), PAIRS)
@pytest.mark.parametrize("method", REFERENCE_METHODS)
def test_every_method_gives_the_maps_of_the_reference(built, way, network, method):
    backend, images = built[way, network], IMAGES[network]
    unable = UNABLE.get((way, network), {})
    errors = [error for need, error in unable.items() if need in METHODS[method].needs]
    if errors:
        with pytest.raises(errors[0]):
            xaimaps.attribute(backend, images, method, target=TARGETS)
        return
    options = OPTIONS.get((method, network), {})
    found = xaimaps.attribute(backend, images, method, target=TARGETS, **options)
    expected = xaimaps.attribute(reference(network), images, method, target=TARGETS, **options)
    close(found.maps, expected.maps)
    close(found.scores, expected.scores)
    assert found.layer == expected.layer
    assert found.maps.dtype == np.float32


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("layer", [INPUT, "conv1", "relu1", "conv2", "relu2", "pool"])
def test_gradients_at_every_layer(built, way, layer):
    backend, images = built[way, "pooled"], IMAGES["pooled"]
    found = backend.grad(jnp.asarray(images), as_target(TARGETS, 3), wrt=layer)
    expected = reference("pooled").grad(images, as_target(TARGETS, 3), wrt=layer)
    for ours, theirs in zip(found, expected, strict=True):
        close(ours.reshape(theirs.shape), theirs)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("layer", ["conv1", "relu1", "conv2", "relu2"])
def test_maps_at_every_layer(built, way, layer):
    backend = built[way, "pooled"]
    options = {"target": TARGETS, "layer": layer, "relu": False}
    found = xaimaps.attribute(backend, IMAGES["pooled"], **options)
    close(found.maps, xaimaps.attribute(reference("pooled"), IMAGES["pooled"], **options).maps)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("layer", "expected"),
    [("conv", [[11.25, 13.5], [20.25, 22.5]]), ("relu1", [[0, 4], [28, 32.5]])],
)
def test_captums_values(built, way, layer, expected):
    found = xaimaps.attribute(built[way, "captum"], RAMP, target=0, layer=layer)
    np.testing.assert_allclose(found.maps, [expected], rtol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_several_targets_give_what_single_ones_give(built, way):
    backend, images = built[way, "pooled"], IMAGES["pooled"]
    for method in ("saliency", "grad_cam"):
        both = xaimaps.attribute(backend, images, method, target=several(4, TARGETS))
        singles = [xaimaps.attribute(backend, images, method, target=t) for t in (4, TARGETS)]
        close(both.maps, np.stack([single.maps for single in singles], axis=1))


@pytest.mark.parametrize("way", WAYS)
def test_a_function_of_the_outputs(built, way):
    backend, images = built[way, "pooled"], IMAGES["pooled"]

    def difference(outputs):
        return outputs[:, 0] - outputs[:, 1]

    found = xaimaps.attribute(
        backend, images, "saliency", target=difference, absolute=False, reduce=None
    )
    parts = [
        xaimaps.attribute(backend, images, "saliency", target=t, absolute=False, reduce=None).maps
        for t in (0, 1)
    ]
    close(found.maps, parts[0] - parts[1])
    assert found.classes is None


@pytest.mark.parametrize("way", WAYS)
def test_zeros_everywhere_have_slope_zero(build, way):
    """At a rectifier's kink the gradient is 0, so a dark image gets a map of zeros."""
    network = pooled_network(channels=8)
    for name in ("conv1", "conv2"):
        network.layers[name].bias[:] = 0
    backend = build(network, way)
    dark = np.zeros((2, 9, 9, 3), np.float32)
    for method in ("saliency", "grad_cam"):
        np.testing.assert_array_equal(xaimaps.attribute(backend, dark, method, target=1).maps, 0)


@pytest.mark.parametrize("way", WAYS)
def test_weights_are_left_bit_for_bit(built, way):
    backend = built[way, "pooled"]
    before = [np.array(leaf).tobytes() for leaf in jax.tree.leaves(backend.params)]
    for method in ("saliency", "input_x_gradient", "grad_cam"):
        xaimaps.attribute(backend, IMAGES["pooled"], method)
    assert [np.array(leaf).tobytes() for leaf in jax.tree.leaves(backend.params)] == before


@pytest.mark.parametrize("way", WAYS)
def test_new_weights_are_used_at_once(built, way):
    """Parameters are arguments of the compiled program, not constants in it."""
    backend, images = built[way, "pooled"], jnp.asarray(IMAGES["pooled"])
    compiled = backend.compile(lambda b, x: b.forward(x), images)
    before, params = compiled(images), backend.params
    try:
        backend.params = jax.tree.map(lambda array: 0 * array, params)
        assert not np.allclose(compiled(images), before)
    finally:
        backend.params = params
    np.testing.assert_array_equal(compiled(images), before)


def test_a_last_partial_batch_is_not_compiled_again(build):
    backend = build(NETWORKS["pooled"], "onnx")
    images = np.concatenate([IMAGES["pooled"]] * 3)[:7]
    compiled = []

    def listen(event, duration, **_):
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    whole = xaimaps.attribute(backend, images, target=1, batch_size=3)
    assert compiled
    compiled.clear()
    again = xaimaps.attribute(backend, images, target=[0, 1, 1, 1, 1, 1, 1], batch_size=3)
    fewer = xaimaps.attribute(backend, images[:3], target=1, batch_size=3)
    assert compiled == []
    np.testing.assert_array_equal(again.maps[1:], whole.maps[1:])
    np.testing.assert_array_equal(fewer.maps, whole.maps[:3])
    assert len(backend._compiled) == 1


# The end of a graph


@pytest.mark.parametrize("end", ["Softmax", "Sigmoid", "LogSoftmax"])
@pytest.mark.parametrize("way", WAYS[:2])
def test_a_last_activation_is_bypassed_and_noted(build, built, way, end):
    backend = build(NETWORKS["pooled"], way, end=end)
    plain = built[way, "pooled"]
    (note,) = backend.info.notes
    assert note == f"scores are taken before the final {end} 'answer'"
    assert plain.info.notes == []
    for method in ("saliency", "cam", "grad_cam"):
        found = xaimaps.attribute(backend, IMAGES["pooled"], method, target=TARGETS)
        expected = xaimaps.attribute(plain, IMAGES["pooled"], method, target=TARGETS)
        close(found.maps, expected.maps)
        close(found.scores, expected.scores)


@pytest.mark.parametrize("way", WAYS[:2])
def test_a_graph_for_one_image_explains_three(build, built, way):
    backend = build(NETWORKS["pooled"], way, batch=1)
    for method in ("saliency", "cam", "grad_cam"):
        found = xaimaps.attribute(backend, IMAGES["pooled"], method, target=TARGETS)
        expected = xaimaps.attribute(built[way, "pooled"], IMAGES["pooled"], method, target=TARGETS)
        close(found.maps, expected.maps)
        singles = [
            xaimaps.attribute(backend, IMAGES["pooled"][i], method, target=TARGETS[i]).maps
            for i in range(3)
        ]
        close(found.maps, np.concatenate(singles))


# Layers


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("network", "default"), [("captum", "relu1"), ("pooled", "relu2")])
def test_the_layers_are_those_of_the_network(built, way, network, default):
    backend, expected = built[way, network], reference(network)
    shapes = {layer.name: layer.shape for layer in backend.layers()}
    for layer in expected.layers():
        if layer.is_spatial:
            assert shapes[layer.name] == layer.shape
    assert backend.default_layer().name == default == expected.default_layer().name
    assert backend.input_shape == expected.input_shape


@pytest.mark.fault("L01", "L02")
@pytest.mark.parametrize("way", WAYS)
def test_wrong_layers(built, way):
    backend, images = built[way, "pooled"], IMAGES["pooled"]
    with pytest.raises(LayerError, match=r"got 'relu3'; nearest: 'relu[12]"):
        xaimaps.attribute(backend, images, layer="relu3")
    with pytest.raises(LayerError, match=r"spatial extent.*such as 'relu2'"):
        xaimaps.attribute(backend, images, layer="pool")


@pytest.mark.fault("L05")
def test_what_is_no_pooling_head(built):
    with pytest.raises(LayerError, match=r"global average pooling .*; use grad_cam"):
        built["onnx", "captum"].classifier()


def test_a_small_head_is_a_head_too(build):
    network = pooled_network(channels=3, classes=2)
    head = build(network, "onnx").classifier()
    np.testing.assert_array_equal(head.weights, network.layers["fc"].weights)


def test_a_condition_that_is_false_runs_nothing(build):
    ran = []

    def program(b, xs):
        def fn(x):
            jax.debug.callback(lambda: ran.append(1))
            return 2.0 * x

        _, found = b.scan(lambda c, x: (c, b.cond(x > 1, fn, x, 0.0 * x)), b.xp.zeros(1), xs)
        return found

    backend, xs = build(pooled_network(), "onnx"), jnp.arange(5.0)
    np.testing.assert_array_equal(backend.compile(program, xs)(xs), [0, 0, 4, 6, 8])
    jax.effects_barrier()
    assert len(ran) == 3


def test_threads_share_a_model(build):
    backend, alone = build(NETWORKS["pooled"], "onnx"), build(NETWORKS["pooled"], "onnx")
    names = ["grad_cam", "saliency", "guided_backprop", "ablation_cam"] * 2
    expected = {name: xaimaps.attribute(alone, IMAGES["pooled"], name).maps for name in names}
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda name: xaimaps.attribute(backend, IMAGES["pooled"], name), names)
        for name, one in zip(names, found, strict=True):
            np.testing.assert_array_equal(one.maps, expected[name])
