"""Keras models of signals, volumes and clips, in TensorFlow and as converted files."""

import functools
import itertools

import numpy as np
import pytest

import xaimaps
from xaimaps.errors import LayerError
from xaimaps.parity._routes import routes

keras = pytest.importorskip("keras")
pytest.importorskip("xaimaps_tensorflow")
pytest.importorskip("tf2onnx")
tf = pytest.importorskip("tensorflow")
L = keras.layers

SHAPES = {1: (12, 2), 3: (4, 5, 6, 2)}


def arrays(rank):
    return np.random.default_rng(2).normal(size=(2, *SHAPES[rank])).astype(np.float32)


def network(rank):
    conv, pool, mean = (getattr(L, f"{name}{rank}D") for name in PARTS)
    steps = [
        conv(3, 3, padding="same", activation="relu", name="conv"),
        pool(2, name="smaller"),
        conv(4, 2, padding="same", activation="relu", name="last"),
        mean(name="mean"),
        L.Dense(3, name="logits"),
    ]
    return keras.Sequential([L.Input(SHAPES[rank]), *steps], name=f"rank{rank}")


PARTS = ("Conv", "MaxPooling", "GlobalAveragePooling")


@pytest.fixture(scope="module", params=[1, 3])
def rank(request):
    return request.param


@pytest.fixture(scope="module")
def model(rank, randomised):
    return randomised(network(rank))


@pytest.fixture(scope="module")
def loaded(model):
    return routes(model)


def convolved(x, kernel, bias):
    """Return a convolution with the padding "same", in float64."""
    sizes, rank = kernel.shape[:-2], kernel.ndim - 2
    sides = [((size - 1) // 2, size // 2) for size in sizes]
    x = np.pad(x, [(0, 0), *sides, (0, 0)])
    view = np.lib.stride_tricks.sliding_window_view(x, sizes, axis=tuple(range(1, rank + 1)))
    return np.tensordot(view, np.moveaxis(kernel, -2, 0), rank + 1) + bias


def halved(x):
    """Return the maxima of windows of two to a side."""
    rank = x.ndim - 2
    x = x[(slice(None), *(slice(0, n // 2 * 2) for n in x.shape[1:-1]))]
    places = itertools.product(range(2), repeat=rank)
    return np.max([x[(slice(None), *(slice(i, None, 2) for i in p))] for p in places], axis=0)


def by_hand(model, x):
    """Return the last feature maps and the logits, in float64."""
    first, second, dense = (
        [np.asarray(w, np.float64) for w in model.get_layer(name).weights]
        for name in ("conv", "last", "logits")
    )
    x = np.maximum(convolved(x.astype(np.float64), *first), 0)
    last = np.maximum(convolved(halved(x), *second), 0)
    return last, last.mean(tuple(range(1, last.ndim - 1))) @ dense[0] + dense[1]


def close(found, expected):
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_outputs_and_layers_are_those_of_keras(rank, model, loaded):
    x = arrays(rank)
    last, logits = by_hand(model, x)
    assert list(loaded) == ["tensorflow", "onnxruntime", "jax"]
    for backend in loaded.values():
        assert backend.input_shape == SHAPES[rank]
        assert backend.default_layer().name == backend.find_layer("last").name
        assert backend.find_layer("last").shape == (None, *last.shape[1:])
        outputs, kept = backend.forward_with_activations(
            backend.asarray(x), (backend.find_layer("last").name,)
        )
        close(backend.to_numpy(outputs), logits)
        close(backend.to_numpy(next(iter(kept.values()))), last)


def test_class_activation_maps_are_the_weighted_sum_of_the_last_maps(rank, model, loaded):
    x = arrays(rank)
    last, _ = by_hand(model, x)
    weighted = last @ np.asarray(model.get_layer("logits").kernel, np.float64)[:, 1]
    places = last[0, ..., 0].size
    for name in ("tensorflow", "jax"):
        found = xaimaps.attribute(loaded[name], x, "grad_cam", target=1).maps
        close(found, np.maximum(weighted, 0) / places)
    for backend in loaded.values():
        close(xaimaps.attribute(backend, x, "cam", target=1).maps, weighted)


def test_saliency_is_the_finite_difference(rank, model, loaded):
    x = arrays(rank)[:1]
    moves = np.eye(x.size).reshape(-1, *x.shape[1:]) * 1e-6
    scores = [by_hand(model, x + sign * moves)[1][:, 1] for sign in (1, -1)]
    slope = ((scores[0] - scores[1]) / 2e-6).reshape(x.shape)
    for name in ("tensorflow", "jax"):
        found = xaimaps.attribute(loaded[name], x, "saliency", target=1).maps
        close(found, np.abs(slope).max(-1))


@pytest.mark.parametrize("method", ["occlusion", "ablation_cam"])
def test_every_route_gives_the_same_maps(rank, loaded, method):
    options = {"window": 3, "stride": 2} if method == "occlusion" else {}
    first, *others = (
        xaimaps.attribute(backend, arrays(rank), method, target=1, **options).maps
        for backend in loaded.values()
    )
    for one in others:
        close(one, first)


def test_clips_through_an_inner_network_for_each_frame(randomised):
    """A layer that runs on each frame is the default; a map of one frame never is."""
    frames = L.TimeDistributed(L.Conv2D(3, 3, padding="same", activation="relu"), name="frames")
    means = L.TimeDistributed(L.GlobalAveragePooling2D(), name="means")
    steps = [frames, means, L.LSTM(4, name="memory"), L.Dense(2, name="logits")]
    model = randomised(keras.Sequential([L.Input((4, 5, 6, 3)), *steps]))
    clips = np.random.default_rng(3).normal(size=(2, 4, 5, 6, 3)).astype(np.float32)
    found = routes(model)
    maps = [xaimaps.attribute(found[n], clips, "saliency", target=1).maps for n in GRADIENTS]
    expected = saliency_by_hand(steps, clips)
    for one in maps:
        close(one, expected)
    result = xaimaps.attribute(found.pop("tensorflow"), clips, "grad_cam", target=1)
    assert result.layer == "frames"
    close(result.maps, grad_cam_by_hand(steps, clips))
    for backend in found.values():
        with pytest.raises(LayerError):
            backend.default_layer()


def saliency_by_hand(steps, clips):
    """Saliency of class 1, with TensorFlow's own gradient."""
    clips = tf.constant(clips)
    with tf.GradientTape() as tape:
        tape.watch(clips)
        score = functools.reduce(lambda x, step: step(x), steps, clips)[:, 1]
    return tf.reduce_max(tf.abs(tape.gradient(score, clips)), -1).numpy()


def grad_cam_by_hand(steps, clips):
    """Grad-CAM of class 1 at the first layer, with TensorFlow's own gradient."""
    with tf.GradientTape() as tape:
        value = steps[0](clips)
        tape.watch(value)
        score = functools.reduce(lambda x, step: step(x), steps[1:], value)[:, 1]
    weights = tf.reduce_mean(tape.gradient(score, value), (1, 2, 3), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * value, -1)).numpy()


GRADIENTS = ("tensorflow", "jax")
