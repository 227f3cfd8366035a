"""The embedded network on three photographs, against PyTorch, ONNX Runtime and differences."""

import functools
import hashlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest

import xaimaps
from xaimaps.methods import METHODS, cam, grad_cam, saliency
from xaimaps.targets import as_target, several

FACE = (slice(40, 200), slice(30, 205))
"""Rows and columns of the cat's face among the 224 x 224 pixels, drawn by hand."""


def close(actual, desired, tolerance):
    """Compare each image relative to its own largest value."""
    for ours, theirs in zip(actual, desired, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def compiled(backend, fn, *arrays):
    """Run `fn(backend, *arrays)` as a compiled program."""
    arrays = [jnp.asarray(array) for array in arrays]
    return jax.tree.map(np.asarray, backend.compile(fn, *arrays)(*arrays))


def gradient_and_maps(backend, images, target):
    """All that PyTorch's values are compared with, from one program."""
    target = as_target(target, len(images))
    return (
        saliency(backend, images, target, absolute=False, reduce=None).maps,
        cam(backend, images, target).maps,
        grad_cam(backend, images, target).maps,
        backend.forward(images),
    )


CAPTUM = Path(__file__).parents[3] / "tests" / "references" / "captum.npz"


@pytest.fixture(scope="module")
def single(embedded, photographs, references):
    """Gradient, CAM, Grad-CAM and logits in float32."""
    return compiled(embedded, gradient_and_maps, photographs, references["targets"])


@pytest.fixture(scope="module")
def double(exact, images64, references):
    """Gradient, CAM, Grad-CAM and logits in float64."""
    with jax.enable_x64(True):
        return compiled(exact, gradient_and_maps, images64, references["targets"])


# ONNX Runtime


@pytest.mark.parametrize("batch", [1, 8])
def test_logits_are_those_of_onnx_runtime(embedded, photographs, batch):
    images = np.concatenate([photographs, photographs[:, :, ::-1], photographs[:, ::-1]])[:batch]
    session = onnxruntime.InferenceSession(
        str(xaimaps.zoo.MODELS["default"]), providers=["CPUExecutionProvider"]
    )
    (expected,) = session.run(None, {"images": images.transpose(0, 3, 1, 2)})
    logits = compiled(embedded, lambda b, x: b.forward(x), images)
    assert logits.shape == (batch, 1000)
    close(logits, expected, 1e-5)
    np.testing.assert_array_equal(logits.argmax(axis=1), expected.argmax(axis=1))


# PyTorch


def test_the_targets_are_what_the_model_answers(single, references):
    np.testing.assert_array_equal(references["targets"], [285, 967, 665])
    np.testing.assert_array_equal(single[3].argmax(axis=1), references["targets"])


@pytest.mark.parametrize(("name", "at"), [("cam", 1), ("grad_cam", 2), ("logits", 3)])
def test_values_are_those_of_pytorch(single, double, references, name, at):
    close(single[at], references[f"{name}_float32"], 1e-4)
    close(double[at], references[f"{name}_float64"], 1e-7)


@pytest.mark.parametrize("image", range(3))
def test_gradients_point_where_pytorchs_do(single, references, image):
    """In float32 single pixels differ, where an activation falls on the other side of a kink."""
    ours = single[0][image, ::3, ::3].ravel().astype(np.float64)
    theirs = references["input_gradient_sampled_float32"][image].ravel().astype(np.float64)
    cosine = ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
    assert cosine >= 0.9999


def test_the_whole_gradient_of_one_photograph(single, references):
    ours = single[0][list(references["names"]).index("motorcycle_left")].ravel()
    theirs = references["input_gradient_motorcycle_left_float32"].ravel()
    assert ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs) >= 0.9999


def test_gradients_in_float64_are_pytorchs(double, references):
    assert double[0].dtype == np.float64
    close(double[0][:, ::3, ::3], references["input_gradient_sampled_float64"], 1e-6)


# What the mathematics says


def test_cam_is_49_times_grad_cam(embedded, photographs, references):
    """Behind the last layer there are only pooling and a dense layer, over 7 x 7 places."""
    weighed = xaimaps.attribute(embedded, photographs, "cam", target=references["targets"])
    pulled = xaimaps.attribute(
        embedded, photographs, "grad_cam", target=references["targets"], relu=False
    )
    close(weighed.maps, 49 * pulled.maps, 1e-5)
    assert weighed.layer == pulled.layer == "head/relu6"


def test_the_mean_of_a_cam_is_the_logit_less_its_bias(embedded, single, references):
    bias = np.asarray(embedded.params["classifier/bias"])[references["targets"]]
    logits = single[3][np.arange(3), references["targets"]]
    np.testing.assert_allclose(single[1].mean(axis=(1, 2)), logits - bias, rtol=1e-5)


def differences(function, point, places, step):
    """Central differences of a scalar function at some positions of one array."""
    size = len(places[0])
    moved = np.zeros((2 * size, *point.shape))
    for sign, half in ((step, moved[:size]), (-step, moved[size:])):
        half[(np.arange(size), *places)] = sign
    values = np.asarray(function(jnp.asarray(point + moved)))
    return (values[:size] - values[size:]) / (2 * step)


def random_places(shape, seed, count=20):
    draw = np.random.default_rng(seed)
    return tuple(draw.integers(0, size, count) for size in shape)


def test_the_gradient_by_pixels_is_the_slope(exact, double, images64):
    """The network is piecewise linear, and a step of 1e-6 stays on one piece."""
    gradient = double[0][0]
    places = random_places(gradient.shape, seed=0)
    with jax.enable_x64(True):
        forward = jax.jit(lambda images: exact.forward(images)[:, 285])
        slopes = differences(forward, images64[0], places, step=1e-6)
    assert np.abs(slopes).min() > 1e-5
    np.testing.assert_allclose(gradient[places], slopes, rtol=0, atol=1e-6 * np.abs(gradient).max())


@pytest.mark.parametrize("layer", ["head/relu6", "blocks.4.2/add"])
def test_the_gradient_by_activations_is_the_slope(exact, images64, layer):
    """The rounding of the score, 1e-14, is divided by the step: 1e-6 would leave 1e-8 of noise."""
    target = as_target(285, 1)
    with jax.enable_x64(True):
        image = jnp.asarray(images64[:1])
        found = compiled(exact, lambda b, x: b.grad(x, target, wrt=layer)[2:], image)
        activations, gradient = (value[0] for value in found)
        places = random_places(gradient.shape, seed=1)
        behind = functools.partial(score_behind, exact, image, layer)
        slopes = differences(jax.jit(jax.vmap(behind)), activations, places, step=1e-4)
    assert np.abs(slopes).max() > 1e-3
    np.testing.assert_allclose(gradient[places], slopes, rtol=0, atol=1e-6 * np.abs(gradient).max())


def score_behind(backend, image, layer, activations):
    return backend.split(image, layer)[1](activations[None])[0, 285]


# What a user relies on


def test_the_hottest_cell_lies_on_the_cat(single):
    heat = single[2][0]
    row, column = (32 * cell + 16 for cell in np.unravel_index(heat.argmax(), heat.shape))
    assert row in range(*FACE[0].indices(224))
    assert column in range(*FACE[1].indices(224))


def test_most_of_the_heat_lies_on_the_cat(single):
    heat = np.kron(single[2][0], np.ones((32, 32)))
    area = 160 * 175 / 224**2
    assert heat[FACE].sum() / heat.sum() > 0.7 > area


def test_a_batch_gives_what_single_images_give(embedded, photographs):
    images = np.concatenate([photographs, photographs[:1, :, ::-1]])
    targets = [285, 967, 665, 282]
    batch = xaimaps.attribute(embedded, images, target=targets)
    singles = [
        xaimaps.attribute(embedded, image, target=target).maps
        for image, target in zip(images, targets, strict=True)
    ]
    close(batch.maps, np.concatenate(singles), 1e-5)


def test_several_targets_give_what_single_ones_give(embedded, photographs):
    targets = (285, "tiger cat", "tabby")
    both = xaimaps.attribute(embedded, photographs[0], target=several(*targets))
    singles = [xaimaps.attribute(embedded, photographs[0], target=one).maps for one in targets]
    assert both.maps.shape == (1, 3, 7, 7)
    close(both.maps[0], np.concatenate(singles), 1e-5)
    assert not np.allclose(both.maps[0, 0], both.maps[0, 1], rtol=0.1)


def test_nothing_changed_the_weights(embedded, single):
    file = xaimaps.zoo.MODELS["default"]
    fresh = xaimaps.load("default")
    assert embedded.info.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert embedded.params.keys() == fresh.params.keys()
    for name, value in fresh.params.items():
        (one,), (other,) = jax.tree.leaves(embedded.params[name]), jax.tree.leaves(value)
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes(), name


def test_what_the_file_says_of_itself(embedded):
    assert embedded.info.name == "efficientnet-lite0"
    assert embedded.info.labels[285] == "Egyptian cat"
    assert embedded.info.preprocess.name == "tf"
    assert embedded.input_shape == (224, 224, 3)
    assert embedded.default_layer().shape == (None, 7, 7, 1280)
    assert embedded.info.notes == []


@pytest.mark.parametrize("name", ["guided_backprop", "deconvnet"])
def test_rectifier_rules_in_float64_are_captums(exact, images64, name):
    with np.load(CAPTUM) as arrays:
        expected, targets, step = (
            arrays[key] for key in (f"embedded_{name}", "embedded_targets", "step")
        )

    def maps(backend, images):
        target = as_target(targets, len(images))
        return METHODS[name].fn(backend, images, target, reduce=None).maps

    with jax.enable_x64(True):
        found = compiled(exact, maps, images64[: len(targets)])
    close(found[:, ::step, ::step], expected, 1e-6)
