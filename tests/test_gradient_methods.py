"""The gradient family: closed forms, other libraries' numbers, and the laws that it keeps."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from xaimaps import targets
from xaimaps._attribute import attribute
from xaimaps._images.preprocess import PRESETS
from xaimaps.backend import Device, Gradients
from xaimaps.errors import MethodError, TargetError
from xaimaps.methods import METHODS
from xaimaps.methods._baselines import baselines
from xaimaps.methods._batching import chunk_size, images_in_place, images_within, variants_behind
from xaimaps.methods._filters import blurred, gaussian, low_passed
from xaimaps.methods._quadrature import quadrature
from xaimaps.methods._resize import resized
from xaimaps.targets import several
from xaimaps.testing import (
    Conv,
    Dense,
    GlobalAveragePool,
    Network,
    ReferenceBackend,
    ReLU,
    pooled_network,
)

REFERENCES = Path(__file__).parent / "references" / "captum.npz"
RULES = ["gauss_legendre", "trapezoid", "riemann_left", "riemann_right", "riemann_middle"]
GRADIENT = [name for name, row in METHODS.items() if row.family == "gradient"]
# Of guided_ig the path, not only the map, changes where rounding decides which of two equal
# gradients is smaller, and a network that takes a mean has many.
SMOOTH = [name for name in GRADIENT if name != "guided_ig"]
FEW = {
    "integrated_gradients": {"n_steps": 5},
    "expected_gradients": {"baseline": "zeros", "n_samples": 5},
    "blur_ig": {"n_steps": 5, "max_sigma": 3},
    "guided_ig": {"n_steps": 5},
    "smoothgrad": {"n_samples": 5},
    "smoothgrad_squared": {"n_samples": 5},
    "vargrad": {"n_samples": 5},
    "xrai": {"segments": 3},
}


def maps(backend, images, name, target=0, **options):
    """The maps of a method with few steps."""
    return METHODS[name].fn(backend, images, target, **{**FEW.get(name, {}), **options}).maps


class Analytic(ReferenceBackend):
    """A function of the pixels of each image, and its gradient."""

    def __init__(self, size, score, gradient):
        super().__init__(Network({}, size))
        self._score, self._gradient = score, gradient

    def forward(self, images):
        return self._score(images)[:, None]

    def grad(self, images, target, **options):
        outputs = self.forward(images)
        return Gradients(outputs, outputs[:, 0], images, self._gradient(images))


def of_pixels(score, *partials):
    """A function of the first pixels, given one by one, and its partial derivatives."""

    def pixels(images):
        return images.reshape(len(images), -1).T

    def gradient(images):
        parts = [partial(*pixels(images)) + 0 * images[:, 0, 0, 0] for partial in partials]
        return np.stack(parts, axis=-1).reshape(images.shape)

    return Analytic((1, len(partials), 1), lambda images: score(*pixels(images)), gradient)


def image(*pixels):
    return np.array(pixels, float).reshape(1, 1, -1, 1)


# Closed forms


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n_steps", [2, 3, 50])
def test_the_weights_of_a_rule_sum_to_one(rule, n_steps):
    points, weights = quadrature(rule, n_steps)
    assert len(points) == n_steps
    assert weights.sum() == pytest.approx(1)
    assert points.min() >= 0
    assert points.max() <= 1
    slack = 1 / n_steps if rule in ("riemann_left", "riemann_right") else 1e-12
    assert weights @ points == pytest.approx(0.5, abs=slack)


@pytest.mark.parametrize(
    ("rule", "points", "weights"),
    [
        ("trapezoid", [0, 0.5, 1], [0.25, 0.5, 0.25]),
        ("riemann_left", [0, 1 / 3, 2 / 3], [1 / 3] * 3),
        ("riemann_right", [1 / 3, 2 / 3, 1], [1 / 3] * 3),
        ("riemann_middle", [1 / 6, 0.5, 5 / 6], [1 / 3] * 3),
        ("gauss_legendre", [0.5 - 0.15**0.5, 0.5, 0.5 + 0.15**0.5], [5 / 18, 4 / 9, 5 / 18]),
    ],
)
def test_three_points_of_each_rule(rule, points, weights):
    np.testing.assert_allclose(quadrature(rule, 3), [points, weights], atol=1e-12)


def test_integrated_gradients_of_a_sum():
    backend = of_pixels(
        lambda x, y, z: 5 * x + y**2 + np.sin(z), lambda *_: 5, lambda x, y, z: 2 * y,
        lambda x, y, z: np.cos(z),
    )  # fmt: skip
    start = image(0.5, 1, 1)
    found = maps(backend, image(1, 2, 3), "integrated_gradients", n_steps=20, baseline=start)
    np.testing.assert_allclose(found.ravel(), [2.5, 3, np.sin(3) - np.sin(1)], rtol=1e-6)


def relu(x):
    return np.maximum(x, 0)


def test_integrated_gradients_do_not_depend_on_how_a_function_is_written():
    first = of_pixels(
        lambda x, y: relu(relu(x) - 1 - relu(y)),
        lambda x, y: (relu(x) - 1 - relu(y) > 0) & (x > 0),
        lambda x, y: -1.0 * ((relu(x) - 1 - relu(y) > 0) & (y > 0)),
    )
    second = of_pixels(
        lambda x, y: relu(relu(x - 1) - relu(y)),
        lambda x, y: (relu(x - 1) - relu(y) > 0) & (x > 1),
        lambda x, y: -1.0 * ((relu(x - 1) - relu(y) > 0) & (y > 0)),
    )
    options = {"n_steps": 1000, "rule": "riemann_middle"}
    found = [maps(b, image(3, 1), "integrated_gradients", **options) for b in (first, second)]
    np.testing.assert_allclose(found[0].ravel(), [1.5, -0.5], rtol=1e-6)
    np.testing.assert_array_equal(found[0], found[1])


def test_linear_paths_give_weight_times_difference():
    backend = of_pixels(lambda x, y: 2 * x + y, lambda *_: 2, lambda *_: 1)
    options = {"n_steps": 10, "fraction": 0.1, "max_dist": 0.5, "baseline": image(-1, -3)}
    found = maps(backend, image(10, 5), "guided_ig", **options)
    np.testing.assert_allclose(found.ravel(), [22, 8], rtol=1e-6)


DEPENDENT = of_pixels(
    lambda x, y: (2 * x + y) ** 2, lambda x, y: 8 * x + 4 * y, lambda x, y: 4 * x + 2 * y
)
APART = of_pixels(lambda x, y: 2 * x**2 + y**2, lambda x, y: 4 * x, lambda x, y: 2 * y)


@pytest.mark.parametrize(
    ("backend", "options", "expected"),
    [
        (APART, {"fraction": 0.1, "max_dist": 0.4}, [18, 9]),
        (DEPENDENT, {"fraction": 0.1, "max_dist": 0.0}, [54, 27]),
        (DEPENDENT, {"fraction": 1.0, "max_dist": 0.5}, [54, 27]),
        (DEPENDENT, {"fraction": 0.1, "max_dist": 1.0}, [72, 9]),
    ],
)
def test_guided_ig_of_quadratic_functions(backend, options, expected):
    found = maps(backend, image(3, 3), "guided_ig", n_steps=1000, **options)
    np.testing.assert_allclose(found.ravel(), expected, rtol=0.01)


def test_guided_ig_in_a_corridor_is_between_the_two():
    options = {"n_steps": 1000, "fraction": 0.1, "max_dist": 0.2}
    first, second = maps(DEPENDENT, image(3, 3), "guided_ig", **options).ravel()
    assert first + second == pytest.approx(81, abs=0.1)
    assert 55 < first < 71


def test_guided_ig_from_the_image_itself_is_zero():
    found = maps(DEPENDENT, image(3, 3), "guided_ig", baseline=image(3, 3))
    np.testing.assert_array_equal(found, 0)


def test_blur_ig_of_a_sine():
    lit = np.zeros((1, 5, 5, 1))
    lit[0, 1, 1], lit[0, 2, 2] = 0.7, 1
    backend = Analytic((5, 5, 1), lambda x: np.sin(x).sum((1, 2, 3)), np.cos)
    found = METHODS["blur_ig"].fn(backend, lit, 0, n_steps=4000, max_sigma=10)
    assert found.maps[0, 1, 1] == pytest.approx(0.641, abs=0.01)
    assert found.maps[0, 2, 2] == pytest.approx(0.838, abs=0.01)
    assert abs(found.details["completeness_delta"][0]) < 0.01


def test_expected_gradients_of_a_linear_function_compare_with_the_mean():
    backend = of_pixels(lambda x, y: 2 * x + y, lambda *_: 2, lambda *_: 1)
    starts = np.stack([image(1, 0)[0], image(3, 4)[0]])
    options = {"baseline": starts, "alphas": np.array([0.3, 0.9]), "choices": np.array([0.1, 0.8])}
    found = METHODS["expected_gradients"].fn(backend, image(10, 5), 0, **options)
    np.testing.assert_allclose(found.maps.ravel(), [16, 3])
    np.testing.assert_allclose(found.details["completeness_delta"], 0, atol=1e-12)


def test_several_baselines_are_averaged(pooled, images):
    starts = images[:3]
    apart = [maps(pooled, images, "integrated_gradients", baseline=one) for one in starts]
    whole = maps(pooled, images, "integrated_gradients", baseline=starts)
    np.testing.assert_allclose(whole, np.mean(apart, axis=0), atol=1e-6)


# Captum and PAIR on a small network, in float64


@pytest.fixture(scope="module")
def theirs():
    with np.load(REFERENCES) as found:
        return dict(found)


@pytest.fixture(scope="module")
def small(theirs):
    layers = {
        "conv1": Conv(theirs["weights_conv1"], theirs["bias_conv1"]),
        "relu1": ReLU(),
        "conv2": Conv(theirs["weights_conv2"], theirs["bias_conv2"]),
        "relu2": ReLU(),
        "pool": GlobalAveragePool(),
        "fc": Dense(theirs["weights_fc"], theirs["bias_fc"]),
    }
    return ReferenceBackend(Network(layers, (9, 9, 3)))


def all_channels(name, **options):
    return name, {"reduce": None, **options}


SAME = {
    "integrated_gradients_gauss_legendre": all_channels("integrated_gradients", n_steps=7),
    **{
        f"integrated_gradients_{rule}": all_channels("integrated_gradients", n_steps=7, rule=rule)
        for rule in ("riemann_left", "riemann_right", "riemann_middle")
    },
    "blur_ig": all_channels("blur_ig", n_steps=20, max_sigma=5),
    "guided_ig": all_channels("guided_ig", n_steps=20, max_dist=0.1),
    "guided_backprop": all_channels("guided_backprop"),
    "deconvnet": all_channels("deconvnet"),
    "guided_grad_cam": all_channels("guided_grad_cam", layer="relu2", interpolation="nearest"),
    "fullgrad": ("fullgrad", {}),
}


@pytest.mark.parametrize("case", SAME)
def test_values_of_other_libraries(small, theirs, case):
    name, options = SAME[case]
    found = maps(small, theirs["images"], name, theirs["targets"], **options)
    expected = theirs[f"small_{case}"]
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["smoothgrad", "smoothgrad_squared", "vargrad"])
def test_values_of_captum_on_noisy_copies(small, theirs, name):
    options = {"absolute": False} if name == "smoothgrad" else {}
    images, targets = theirs["images"], theirs["targets"]
    found = maps(small, images, name, targets, noise=theirs["noise"], reduce=None, **options)
    np.testing.assert_allclose(found, theirs[f"small_{name}"], rtol=1e-9, atol=1e-12)


def test_values_of_captum_on_the_ways_from_noise(small, theirs):
    options = {"alphas": theirs["alphas"], "choices": np.arange(4) / 4, "reduce": None}
    images, targets = theirs["images"], theirs["targets"]
    found = maps(small, images, "expected_gradients", targets, baseline=theirs["noise"], **options)
    np.testing.assert_allclose(found, theirs["small_expected_gradients"], rtol=1e-9, atol=1e-12)


# Laws


def batches(count=2):
    numbers = st.floats(-3, 3, width=32, allow_subnormal=False)
    return arrays(np.float32, (count, 9, 9, 3), elements=numbers)


@pytest.mark.parametrize("rule", RULES)
@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 100), scale=st.floats(0.1, 3))
def test_integrated_gradients_are_complete(rule, seed, scale):
    # Places differ, as in a picture: in one colour all of them cross their kinks at the same
    # point of the path, where any rule is off by that point's whole weight.
    backend = ReferenceBackend(pooled_network(seed))
    doubles = scale * np.random.default_rng(seed).normal(size=(2, 9, 9, 3))
    n_steps = 1000 if rule == "gauss_legendre" else 2000
    options = {"n_steps": n_steps, "rule": rule}
    found = METHODS["integrated_gradients"].fn(backend, doubles, [1, 2], **options)
    scores = backend.forward(doubles) - backend.forward(np.zeros_like(doubles))
    difference = scores[[0, 1], [1, 2]]
    delta = found.details["completeness_delta"]
    np.testing.assert_allclose(found.maps.sum((1, 2)) - difference, delta, atol=1e-6)
    assert (np.abs(delta) < 1e-3 * np.maximum(np.abs(difference), 1)).all()


@settings(deadline=None, max_examples=20)
@given(pictures=batches(), seed=st.integers(0, 100))
def test_fullgrad_is_complete(pictures, seed):
    backend = ReferenceBackend(pooled_network(seed))
    found = METHODS["fullgrad"].fn(backend, pictures.astype(np.float64), 1)
    np.testing.assert_allclose(found.details["completeness_delta"], 0, atol=1e-6)


SIGNED = {
    "saliency": {"absolute": False},
    "input_x_gradient": {},
    "integrated_gradients": {},
    "expected_gradients": {},
    "blur_ig": {},
    "smoothgrad": {"absolute": False},
}


@pytest.mark.parametrize("name", SIGNED)
@settings(deadline=None, max_examples=5)
@given(pictures=batches())
def test_the_map_of_a_difference_is_the_difference_of_maps(name, pictures):
    backend = ReferenceBackend(pooled_network())
    both = several(3, 1, targets.contrast(3, 1))
    options = {**SIGNED[name], "reduce": None}
    first, second, less = maps(backend, pictures.astype(np.float64), name, both, **options)
    np.testing.assert_allclose(less, first - second, atol=1e-6)


@pytest.mark.parametrize("name", SMOOTH)
@settings(deadline=None, max_examples=5)
@given(pictures=batches(4), order=st.permutations(range(4)))
def test_an_image_has_its_map_in_any_batch(name, pictures, order):
    backend, doubles = ReferenceBackend(pooled_network()), pictures.astype(np.float64)
    whole = maps(backend, doubles, name, None)
    np.testing.assert_allclose(maps(backend, doubles[order], name, None), whole[order], atol=1e-6)
    alone = [maps(backend, one[None], name, None)[0] for one in doubles]
    np.testing.assert_allclose(alone, whole, atol=1e-6)


def test_guided_ig_of_an_image_in_any_batch(pooled, images):
    doubles = images[:3].astype(np.float64)
    alone = [maps(pooled, one[None], "guided_ig", None)[0] for one in doubles]
    np.testing.assert_allclose(maps(pooled, doubles, "guided_ig", None), alone, atol=1e-6)


def symmetric_network():
    """A network that does not tell an image from its mirror image."""
    network = pooled_network(3)
    layers = {
        name: Conv(layer.kernel + layer.kernel[:, ::-1], layer.bias)
        if isinstance(layer, Conv)
        else layer
        for name, layer in network.layers.items()
    }
    return ReferenceBackend(Network(layers, network.input_shape))


# Noise is not mirrored, and superpixels of equal colours are numbered from the left.
@pytest.mark.parametrize("name", [n for n in SMOOTH if METHODS[n].draws is None])
@settings(deadline=None, max_examples=5)
@given(pictures=batches())
def test_the_map_of_a_mirrored_image_is_mirrored(name, pictures):
    backend, doubles = symmetric_network(), pictures.astype(np.float64)
    found = maps(backend, doubles[:, :, ::-1], name)[:, :, ::-1]
    np.testing.assert_allclose(found, maps(backend, doubles, name), atol=1e-6)


@pytest.mark.parametrize("name", ["smoothgrad", "smoothgrad_squared", "vargrad"])
def test_mirrored_noise_gives_mirrored_maps(images, name):
    backend, noise = symmetric_network(), np.random.default_rng(0).normal(size=(3, 9, 9, 3))
    found = maps(backend, images[:, :, ::-1], name, noise=noise[:, :, ::-1])[:, :, ::-1]
    np.testing.assert_allclose(found, maps(backend, images, name, noise=noise), atol=1e-6)


@pytest.mark.parametrize("name", GRADIENT)
@settings(deadline=None, max_examples=5)
@given(pictures=batches(), scale=st.sampled_from([0, 1e-30, 1e-3, 1e6]))
def test_finite_images_give_finite_maps(name, pictures, scale):
    backend = ReferenceBackend(pooled_network())
    assert np.isfinite(maps(backend, pictures * np.float32(scale), name, None)).all()


@pytest.mark.parametrize("name", [*FEW, "saliency"])
def test_all_of_several_targets_are_those_alone(pooled, images, name):
    if "reduce" in METHODS[name].options:
        whole = maps(pooled, images, name, several(4, None), reduce=None)
        for part, target in zip(whole, (4, None), strict=True):
            alone = maps(pooled, images, name, target, reduce=None)
            np.testing.assert_allclose(part, alone, atol=1e-5)


# Chance


@pytest.mark.parametrize(
    "name", ["smoothgrad", "smoothgrad_squared", "vargrad", "expected_gradients"]
)
def test_a_seed_decides_everything(pooled, images, name):
    baseline = {"baseline": "noise"} if name == "expected_gradients" else {}

    def found(seed):
        options = {**FEW[name], **baseline}
        return attribute(pooled, images, name, seed=seed, **options).maps

    np.testing.assert_array_equal(found(1), found(1))
    assert not np.allclose(found(1), found(2))
    drawn = maps(pooled, images, name, None, seed=1, **baseline)
    np.testing.assert_allclose(found(1), drawn, atol=1e-7)


def test_no_noise_gives_the_gradient(pooled, images):
    plain = maps(pooled, images, "saliency")
    np.testing.assert_allclose(maps(pooled, images, "smoothgrad", noise_level=0), plain, atol=1e-7)
    np.testing.assert_array_equal(maps(pooled, images, "vargrad", noise_level=0), 0)


@pytest.mark.parametrize("base", [n for n in GRADIENT if "reduce" in METHODS[n].options])
def test_any_gradient_method_can_be_smoothed(pooled, images, base):
    options = tuple(FEW.get(base, {}).items())
    found = maps(pooled, images[:2], "smoothgrad", base=base, base_options=options, n_samples=2)
    assert found.shape == (2, 9, 9)
    plain = maps(pooled, images[:2], base, **({"absolute": False} if base == "saliency" else {}))
    assert plain.shape == found.shape


def test_smoothed_maps_are_the_mean_of_the_methods_own(pooled, images):
    noise = np.random.default_rng(0).normal(size=(3, 9, 9, 3)).astype(np.float32)
    width = images.max((1, 2, 3), keepdims=True) - images.min((1, 2, 3), keepdims=True)
    apart = [
        maps(pooled, images + np.float32(0.2) * width * one, "input_x_gradient", reduce=None)
        for one in noise
    ]
    options = {"base": "input_x_gradient", "noise": noise, "noise_level": 0.2, "absolute": False}
    found = maps(pooled, images, "smoothgrad", reduce=None, **options)
    np.testing.assert_allclose(found, np.mean(apart, axis=0), atol=1e-6)


# Memory


@pytest.mark.parametrize("name", [n for n in GRADIENT if "memory" in METHODS[n].options])
@pytest.mark.parametrize("memory", [1e-9, 0.2, 512])
def test_maps_do_not_depend_on_the_memory(pooled, images, name, memory):
    expected = maps(pooled, images, name, several(1, None))
    found = attribute(pooled, images, name, target=several(1, None), memory=memory, **FEW[name])
    np.testing.assert_allclose(np.moveaxis(found.maps, 1, 0), expected, atol=1e-6)


def test_images_that_fit():
    backend = ReferenceBackend(pooled_network())
    values = 9 * 9 * 3 + 2 * 7 * 7 * 6 + 2 * 5 * 5 * 6 + 6 + 5
    assert images_within(backend, (9, 9, 3), values * 4 * 10 / 1e6, gradient=False) == 10
    assert images_within(backend, (9, 9, 3), values * 8 * 10 / 1e6) == 10
    assert images_within(backend, (9, 9, 3), 1e-9) == 1
    assert images_within(backend, (9, 9, 3), None) == 600e6 // (values * 8)


class Accelerated(ReferenceBackend):
    """Has 40 GB of its own memory."""

    device = Device("a GPU", memory=40 * 10**9)


def test_the_memory_follows_the_device():
    """A quarter of its own memory; a CPU has at most 64 variants of a layer at a time."""
    backend, image = Accelerated(pooled_network()), np.zeros((1, 9, 9, 3), np.float32)
    plain = ReferenceBackend(pooled_network())
    many, few = (images_within(one, (9, 9, 3), None) for one in (backend, plain))
    assert many == pytest.approx(few * 10e9 / 600e6, rel=1e-3)
    many, few = (variants_behind(one, "relu1", image, None) for one in (backend, plain))
    assert (many > 10_000, few) == (True, 64)
    assert variants_behind(backend, "relu1", image, 1e-9) == 1


class Recorded(ReferenceBackend):
    """Reuses the memory of values of up to three images, and records how many each pass has."""

    device = Device(reused=3 * 7 * 7 * 6 * 4)
    devices = 1

    def __init__(self):
        super().__init__(pooled_network())
        self.sizes = []

    def arguments(self, images, *arrays):
        self.sizes.append(len(images))
        return super().arguments(images, *arrays)


def test_a_batch_is_halved_until_its_values_take_no_new_memory(images):
    many = np.concatenate([images] * 4)[:7]
    backend = Recorded()
    found = attribute(backend, many, "saliency", target=1, batch_size=7)
    assert backend.sizes == [2] * 4
    whole = attribute(ReferenceBackend(pooled_network()), many, "saliency", target=1)
    np.testing.assert_array_equal(found.maps, whole.maps)
    assert [images_in_place(backend, (9, 9, 3), n) for n in (1, 3, 4, 8)] == [1, 3, 2, 2]
    backend.devices = 4  # among which each part of the batch is divided evenly
    assert [images_in_place(backend, (9, 9, 3), n) for n in (3, 12, 16, 64)] == [3, 12, 8, 8]


@pytest.mark.parametrize(
    ("count", "most", "size"), [(8, 7, 4), (8, 8, 8), (8, 3, 2), (3, 8, 3), (7, 6, 4), (8, 1, 1)]
)
def test_chunks_have_the_least_padding(count, most, size):
    assert chunk_size(count, most) == size


def test_a_batch_of_many_passes_is_divided_evenly(images):
    values = 9 * 9 * 3 + 2 * 7 * 7 * 6 + 2 * 5 * 5 * 6 + 6 + 5
    backend = Recorded()
    options = {"window": 4, "stride": 3, "memory": values * 4 * 6.5 / 1e6}
    attribute(backend, images, "occlusion", target=1, **options)
    assert backend.sizes == [4, 4], "seven images of which six fit"


# Baselines


@pytest.mark.parametrize(
    ("preset", "name", "expected"),
    [
        ("tf", "black", [-1, -1, -1]),
        ("tf", "white", [1, 1, 1]),
        ("tf", "gray", [0, 0, 0]),
        ("raw", "gray", [127.5, 127.5, 127.5]),
        ("caffe", "black", [-103.939, -116.779, -123.68]),
        ("torch", "black", [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]),
        ("torch", "zeros", [0, 0, 0]),
        ("torch", None, [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]),
        (None, None, [0, 0, 0]),
    ],
)
def test_baselines_are_colours_of_the_picture(pooled, images, preset, name, expected):
    pooled.info.preprocess = PRESETS[preset] if preset else None
    found = baselines(pooled, images, name)
    assert found.shape == (1, *images.shape)
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=1e-6, atol=1e-6)


def test_baselines_made_of_the_image(pooled, images):
    mean = baselines(pooled, images, "mean")[0]
    np.testing.assert_allclose(mean[:, 3, 4], images.mean((1, 2)), atol=1e-6)
    flat = np.full_like(images, 3)
    np.testing.assert_allclose(baselines(pooled, flat, "blur")[0], flat, rtol=1e-6)
    drawn = baselines(pooled, images, "noise", np.array([[[[0.0, 0.5, 1]]]]))
    np.testing.assert_allclose(drawn.ravel(), [0, 0.5, 1])


def test_the_baseline_that_was_chosen_is_recorded(pooled, images):
    for preset, expected in ((PRESETS["unit"], "black"), (None, "zeros")):
        pooled.info.preprocess = preset
        found = attribute(pooled, images, "integrated_gradients", n_steps=2)
        assert found.options["baseline"] == expected


def test_an_array_as_an_option_is_saved_by_its_digest(pooled, images, tmp_path):
    found = attribute(pooled, images[:1], "integrated_gradients", n_steps=2, baseline=images[1])
    saved = [path for path in found.save(tmp_path) if path.suffix == ".json"]
    options = json.loads(saved[0].read_text())["options"]
    assert options["baseline"]["shape"] == [9, 9, 3]
    assert len(options["baseline"]["sha256"]) == 64


# Filters


@pytest.mark.parametrize("sigma", [0, 0.3, 1, 2.6])
def test_blurs_are_scipys(sigma):
    line = np.random.default_rng(0).normal(size=12)
    found = gaussian(np, 12, np.array([float(sigma)]), 3)
    expected = line if sigma == 0 else ndimage.gaussian_filter1d(line, sigma, mode="constant")
    np.testing.assert_allclose(found.matrix[0] @ line, expected, atol=1e-12)
    step = 1e-6
    more = gaussian(np, 12, np.array([sigma + step]), 3).matrix - found.matrix
    np.testing.assert_allclose(found.slope, more / step, atol=1e-5)


def test_a_blurred_constant_stays(pooled):
    np.testing.assert_allclose(blurred(pooled, np.ones((1, 6, 5, 2)), 2), 1)


@pytest.mark.parametrize(("size", "sigma"), [((8, 9), 2.5), ((9, 9), 1), ((6, 10), 100)])
def test_low_pass_is_a_disk_in_the_fourier_domain(pooled, size, sigma):
    noise = np.random.default_rng(0).normal(size=(2, *size))
    rows, columns = (np.fft.fftfreq(n) * n for n in size)
    disk = rows[:, None] ** 2 + columns**2 <= sigma**2
    expected = np.fft.ifft2(np.fft.fft2(noise) * disk).real
    np.testing.assert_allclose(low_passed(pooled, noise, sigma), expected, atol=1e-12)


def test_resizes(pooled):
    ramp = np.arange(4.0).reshape(1, 2, 2)
    nearest = resized(pooled, ramp, (4, 4), "nearest")
    np.testing.assert_array_equal(nearest, ramp.repeat(2, axis=1).repeat(2, axis=2))
    np.testing.assert_allclose(resized(pooled, ramp, (2, 4))[0, 0], [0, 0.25, 0.75, 1])


@pytest.mark.parametrize("name", ["saliency", "grad_cam", "smoothgrad", "integrated_gradients"])
def test_the_mean_with_the_mirror_image(pooled, images, name):
    options = FEW.get(name, {})
    found = attribute(pooled, images, name, augment="flip", **options)
    plain = attribute(pooled, images, name, **options)
    goal = plain.classes
    other = attribute(pooled, images[:, :, ::-1], name, target=goal, **options)
    np.testing.assert_allclose(found.maps, (plain.maps + other.maps[:, :, ::-1]) / 2, atol=1e-6)
    np.testing.assert_array_equal(found.classes, goal)
    assert found.options["augment"] == "flip"
    assert "augment" not in plain.options


@pytest.mark.parametrize("options", [{}, {"reduce": None}, {"target": "top-2"}])
def test_a_low_pass_of_any_map(pooled, images, options):
    found = attribute(pooled, images, "input_x_gradient", low_pass=2, **options)
    plain = attribute(pooled, images, "input_x_gradient", **options)
    if "reduce" in options:
        plain_maps = np.moveaxis(plain.maps, -1, 1)
        expected = np.moveaxis(low_passed(pooled, plain_maps, 2), 1, -1)
    else:
        expected = low_passed(pooled, plain.maps, 2)
    np.testing.assert_allclose(found.maps, expected, atol=1e-6)
    assert found.options["low_pass"] == 2
    whole = low_passed(pooled, plain.maps[..., 0] if "reduce" in options else plain.maps, 99)
    np.testing.assert_allclose(
        whole, plain.maps[..., 0] if "reduce" in options else plain.maps, atol=1e-6
    )


# Mistakes


def linear_network():
    layers = {"pool": GlobalAveragePool(), "fc": pooled_network().layers["fc"]}
    return ReferenceBackend(Network(layers, (9, 9, 6)))


@pytest.mark.parametrize("name", ["guided_backprop", "deconvnet", "guided_grad_cam"])
def test_rectifier_rules_need_rectifiers(name):
    with pytest.raises(MethodError, match="has none; use saliency"):
        METHODS[name].fn(linear_network(), np.ones((1, 9, 9, 6)), 0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("integrated_gradients", {"rule": "simpson"}, "`rule` must be one of"),
        ("integrated_gradients", {"rule": "trapezoid", "n_steps": 1}, "at least 2"),
        ("integrated_gradients", {"n_steps": 0}, "`n_steps`"),
        ("integrated_gradients", {"n_steps": 2.5}, "`n_steps`"),
        ("integrated_gradients", {"baseline": "blak"}, "nearest: 'black'"),
        ("integrated_gradients", {"baseline": np.ones((4, 4, 3))}, "`baseline` must be"),
        ("integrated_gradients", {"baseline": np.ones((0, 9, 9, 3))}, "at least one"),
        ("integrated_gradients", {"baseline": 0}, "`baseline` must be"),
        ("integrated_gradients", {"baseline": "noise", "n_baselines": 0}, "`n_baselines`"),
        ("integrated_gradients", {"memory": 0}, "`memory`"),
        ("integrated_gradients", {"memory": "big"}, "`memory`"),
        ("expected_gradients", {"n_samples": 0}, "`n_samples`"),
        ("expected_gradients", {"seed": -1}, "`seed`"),
        ("blur_ig", {"max_sigma": 0}, "`max_sigma`"),
        ("blur_ig", {"n_steps": 0}, "`n_steps`"),
        ("guided_ig", {"fraction": 0}, "`fraction`"),
        ("guided_ig", {"max_dist": 2}, "`max_dist`"),
        ("guided_ig", {"baseline": np.ones((2, 9, 9, 3))}, "must be one image"),
        ("guided_ig", {"baseline": "noise"}, "must not be 'noise'"),
        ("smoothgrad", {"base": "grad_cam"}, "`base` must be"),
        ("smoothgrad", {"base": "fullgrad"}, "`base` must be"),
        ("smoothgrad", {"base": "saliencies"}, "nearest: 'saliency'"),
        ("smoothgrad", {"base_options": (("steps", 3),)}, "has no option 'steps'"),
        ("smoothgrad", {"noise_level": -1}, "`noise_level`"),
        ("vargrad", {"n_samples": 0}, "`n_samples`"),
        ("guided_grad_cam", {"interpolation": "cubic"}, "`interpolation`"),
        ("saliency", {"augment": "rotate"}, "`augment`"),
        ("saliency", {"low_pass": 0}, "`low_pass`"),
    ],
)
def test_options_out_of_range(pooled, images, name, options, message):
    with pytest.raises(MethodError, match=message):
        attribute(pooled, images, name, **options)


def test_colours_need_a_preprocessing(pooled, images):
    pooled.info.preprocess = None
    with pytest.raises(MethodError, match="preprocessing of pixels, which is unknown"):
        attribute(pooled, images, "integrated_gradients", baseline="black")


def test_a_region_is_not_mirrored(pooled, images):
    target = several(targets.contrast(0, targets.region(np.ones((2, 2)), 0, axis=1)))
    with pytest.raises(TargetError, match="`augment` must be None for a region"):
        attribute(pooled, images, "saliency", target=target, augment="flip")
