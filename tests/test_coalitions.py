"""Games of segments against shap, lime and xplique, against enumeration, and by their laws."""

import itertools
import math
import sys
from pathlib import Path

import numpy as np
import pytest

import xaimaps
from xaimaps.errors import MethodError
from xaimaps.methods import METHODS, lime, sobol
from xaimaps.methods.hsic import dependence
from xaimaps.methods.lime import proximity, ridge_weights
from xaimaps.methods.owen import plan_halves
from xaimaps.targets import several
from xaimaps.testing import Dense, Flatten, Network, ReferenceBackend, pooled_network

STORED = np.load(Path(__file__).parent / "references" / "coalitions.npz")
CELLS = np.arange(9).reshape(3, 3).repeat(3, axis=0).repeat(3, axis=1)
GAMES = {
    "kernel_shap": {"n_samples": 100, "segments": 3},
    "shapley_sampling": {"n_permutations": 6, "segments": 3},
    "owen": {"depth": 3},
    "lime": {"n_samples": 50, "segments": 3},
    "sobol": {"n_designs": 8, "segments": 3},
    "hsic": {"n_samples": 50, "segments": 3},
}
EFFICIENT = ["kernel_shap", "shapley_sampling", "owen"]


def close(actual, desired, tolerance=1e-5):
    size = np.abs(desired).max()
    assert size > 1e-3
    np.testing.assert_allclose(actual, desired, rtol=0, atol=tolerance * size)


def explain(name, images=STORED["image"], backend=None, **options):
    backend = backend or ReferenceBackend(pooled_network())
    options = {"target": 2, "baseline": "zeros", **GAMES[name], **options}
    return xaimaps.attribute(backend, images, name, **options)


def linear(shape=(6, 6, 2)):
    """A score that is a sum over pixels, so that every segment's value is its own sum."""
    weights = np.random.default_rng(3).normal(size=(np.prod(shape), 3)).astype(np.float32)
    return ReferenceBackend(
        Network({"flatten": Flatten(), "fc": Dense(weights, np.float32([1, 2, 3]))}, shape)
    )


def exact_shapley_values():
    """Shapley's formula, over all subsets of the other segments."""
    scores = dict(zip(map(tuple, STORED["every"]), STORED["every_score"], strict=True))
    values = np.zeros(9)
    for player in range(9):
        for row in filter(lambda row: not row[player], scores):
            size = sum(row)
            weight = math.factorial(size) * math.factorial(8 - size) / math.factorial(9)
            more = (*row[:player], 1, *row[player + 1 :])
            values[player] += weight * (scores[more] - scores[row])
    return values


# Against values that are not ours


def test_kernel_shap_of_all_coalitions_has_shaps_values():
    found = explain("kernel_shap", n_samples=510)
    close(found.details["values"][0], STORED["kernel_shap"])
    close(found.details["values"][0], exact_shapley_values())
    close(found.maps[0], STORED["kernel_shap"][CELLS])


def test_shapley_sampling_of_all_orders_is_exact():
    image = STORED["image"]
    orders = np.array(list(itertools.permutations(range(4)))).astype(np.int32)
    quarters = np.arange(4).reshape(2, 2).repeat([5, 4], axis=0).repeat([5, 4], axis=1)
    backend = ReferenceBackend(pooled_network())
    own = METHODS["shapley_sampling"].fn
    found = own(backend, image, 2, baseline="zeros", labels=quarters.astype(np.int32), ranks=orders)
    exact = explain("kernel_shap", segments=quarters, n_samples=14)
    close(found.details["values"], exact.details["values"])


def test_shapley_sampling_comes_within_its_standard_error():
    found = explain("shapley_sampling", n_permutations=400).details
    deviation = (found["values"][0] - exact_shapley_values()) / found["standard_error"][0]
    assert np.abs(deviation).max() < 4
    assert 0.3 < np.sqrt((deviation**2).mean()) < 2


def test_owen_has_the_sums_of_shaps_values_over_its_rectangles():
    backend = ReferenceBackend(pooled_network(size=8))
    for depth, count in ((1, 2), (3, 8), (6, 64)):
        found = explain("owen", STORED["image"][:, :8, :8], backend, depth=depth)
        labels = plan_halves((8, 8, 3), depth=depth)["labels"]
        sums = np.bincount(labels.ravel(), STORED["owen"].ravel())
        assert found.details["values"].shape == (1, count)
        close(found.details["values"][0], sums)


def test_lime_has_limes_coefficients():
    rows = STORED["rows"].astype(np.float32)
    kernel = proximity(rows, 0.25)
    found = lime(
        ReferenceBackend(pooled_network()), STORED["image"], 2,
        baseline="zeros", probability=False, labels=CELLS.astype(np.int32),
        coalitions=rows, kernel=kernel, weights=ridge_weights(rows, kernel, 1.0),
    )  # fmt: skip
    close(found.details["values"][0], STORED["lime"])
    np.testing.assert_allclose(found.details["r2"], STORED["lime_r2"], atol=1e-5)


def test_sobol_has_xpliques_indices():
    found = sobol(
        ReferenceBackend(pooled_network()), STORED["image"], 2,
        baseline="zeros", labels=CELLS.astype(np.int32), coalitions=STORED["designs"],
    )  # fmt: skip
    close(found.details["values"][0], STORED["sobol"], 1e-4)


def test_hsic_has_xpliques_indices_with_its_width():
    scores = STORED["hsic_scores"]
    found = dependence(np, STORED["rows"].astype(float), scores, np.median(scores))
    close(found, STORED["hsic"], 1e-4)


# Laws


@pytest.mark.parametrize("name", EFFICIENT)
@pytest.mark.parametrize("probability", [False, True])
def test_values_sum_to_the_difference_from_the_baseline(name, probability):
    images = np.concatenate([STORED["image"], 2 * STORED["image"]])
    found = explain(name, images, target=several(2, 0), probability=probability)
    backend = ReferenceBackend(pooled_network())
    outputs = [backend.forward(x).astype(float) for x in (images, 0 * images)]
    if probability:
        outputs = [np.exp(y) / np.exp(y).sum(axis=-1, keepdims=True) for y in outputs]
    difference = (outputs[0] - outputs[1])[:, [2, 0]]
    np.testing.assert_allclose(found.details["values"].sum(-1), difference, atol=1e-5)
    np.testing.assert_allclose(found.details["completeness_delta"], 0, atol=1e-5)


@pytest.mark.parametrize("name", [*EFFICIENT, "lime"])
def test_of_a_linear_score_every_value_is_the_segments_own_sum(name):
    backend = linear()
    image = np.random.default_rng(5).normal(size=(1, 6, 6, 2)).astype(np.float32)
    options = {"alpha": 1e-6, "probability": False} if name == "lime" else {}
    found = explain(name, image, backend, target=1, **options)
    weights = np.moveaxis(backend.chain.layers["fc"].weights[:, 1].reshape(2, 6, 6), 0, -1)
    each = (weights * image[0]).sum(axis=-1)
    labels = np.unique(found.maps[0], return_inverse=True)[1].reshape(6, 6)
    sums = np.bincount(labels.ravel(), each.ravel())[labels]
    close(found.maps[0], sums, 1e-4)


@pytest.mark.parametrize("name", GAMES)
def test_a_constant_score_gives_zeros(name):
    zero = Dense(np.zeros((72, 3), np.float32), np.float32([1, 2, 3]))
    backend = ReferenceBackend(Network({"flatten": Flatten(), "fc": zero}, (6, 6, 2)))
    image = np.random.default_rng(5).normal(size=(1, 6, 6, 2)).astype(np.float32)
    found = explain(name, image, backend, target=1)
    np.testing.assert_allclose(found.maps, 0, atol=1e-6)


@pytest.mark.parametrize("name", ["sobol", "hsic"])
def test_rounding_of_a_constant_score_is_no_dependence(name):
    """A score of 1000 in float32 changes by its last digit only."""
    weights = np.full((72, 1), 1e-6, np.float32)
    layers = {"flatten": Flatten(), "fc": Dense(weights, np.float32([1000]))}
    backend = ReferenceBackend(Network(layers, (6, 6, 2)))
    image = np.random.default_rng(5).normal(size=(1, 6, 6, 2)).astype(np.float32)
    assert explain(name, image, backend, target=0).maps.max() < 1e-6


@pytest.mark.parametrize("name", ["sobol", "hsic"])
def test_only_the_segment_that_counts_has_an_index(name):
    weights = np.zeros((72, 1), np.float32)
    weights[14] = 1  # channel 0, row 2, column 2: the segment in the middle
    layers = {"flatten": Flatten(), "fc": Dense(weights, np.zeros(1, np.float32))}
    backend = ReferenceBackend(Network(layers, (6, 6, 2)))
    image = np.ones((1, 6, 6, 2), np.float32)
    number = {"n_designs": 400} if name == "sobol" else {"n_samples": 400}
    values = explain(name, image, backend, target=0, **number).details["values"][0]
    assert values.argmax() == 4
    others = np.delete(values, 4)
    if name == "sobol":
        np.testing.assert_allclose(values[4], 1, atol=0.15)
        np.testing.assert_array_equal(others, 0)
    assert others.max() < 0.1 * values[4]


def test_hsic_is_the_trace_of_the_centred_kernels():
    rows, scores = STORED["rows"].astype(float), np.random.default_rng(0).normal(size=128)
    centring = np.eye(128) - 1 / 128
    kernel = np.exp(-((scores[:, None] - scores) ** 2) / (2 * 0.7**2))
    expected = [
        np.trace(centring @ (0.5 - (a[:, None] - a) ** 2) @ centring @ kernel) / 128 for a in rows.T
    ]
    close(dependence(np, rows, scores, 0.7), np.array(expected), 1e-9)


@pytest.mark.parametrize("name", GAMES)
def test_several_images_and_targets_are_each_alone(name):
    images = np.concatenate([STORED["image"], STORED["image"][:, ::-1]])
    whole = explain(name, images, target=several(2, 0))
    for i, j in itertools.product(range(2), range(2)):
        alone = explain(name, images[i : i + 1], target=(2, 0)[j], memory=1e-6)
        np.testing.assert_allclose(whole.maps[i, j], alone.maps[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(GAMES) - {"owen"}))
def test_the_seed_decides(name):
    first = explain(name, seed=4).maps
    np.testing.assert_array_equal(explain(name, seed=4).maps, first)
    assert not np.array_equal(explain(name, seed=5).maps, first)


# Segments and samples


def test_ones_own_segments_are_those_of_the_map():
    labels = np.full((9, 9), -7)
    labels[2:5, 3:8] = 1000
    found = explain("kernel_shap", segments=labels)
    inside = np.unique(found.maps[0][labels == 1000])
    outside = np.unique(found.maps[0][labels != 1000])
    assert len(inside) == len(outside) == 1
    hidden = STORED["image"] * (labels != 1000)[..., None]
    shown = STORED["image"] * (labels == 1000)[..., None]
    scores = [
        float(ReferenceBackend(pooled_network()).forward(x)[0, 2])
        for x in (STORED["image"], hidden, shown, 0 * hidden)
    ]
    by_hand = (scores[0] - scores[1] + scores[2] - scores[3]) / 2
    close(inside, np.array([by_hand]))


def test_limes_absent_segments_have_their_mean_colour():
    backend, image = linear((6, 6, 2)), np.ones((1, 6, 6, 2), np.float32)
    image[0, :2, :2, 0] = [[1, 2], [3, 4]]
    options = {"target": 1, "baseline": "segments", "probability": False, "alpha": 1e-6}
    found = explain("lime", image, backend, **options).maps[0]
    assert np.abs(found[:2, :2]).min() > 1e-3
    found[:2, :2] = 0
    np.testing.assert_allclose(found, 0, atol=1e-4)


def test_an_axis_of_few_pixels_has_a_cell_for_each():
    assert explain("kernel_shap", segments=(2, 20)).details["values"].shape == (1, 18)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lime", {"segments": 0}, "`segments` must be an integer of at least 1, got 0"),
        ("lime", {"segments": 1}, "`segments` must make 2 to 1000 segments, got 1"),
        ("lime", {"segments": "grid"}, "`segments` must be one of slic, quickshift, felzenszwalb"),
        ("lime", {"segments": (2, 2, 2)}, "one number of cells or one for each of 2 axes"),
        ("lime", {"segments": np.zeros((9, 9), int)}, "2 to 1000 segments, got 1"),
        ("lime", {"segments": np.eye(9)}, "integers of shape .9, 9., .* got float64"),
        ("lime", {"segments": np.eye(8, dtype=int)}, "shape .9, 9., .* got int64 of shape .8, 8."),
        ("lime", {"n_samples": 10**7}, "`n_samples` must be at most 1000000"),
        ("kernel_shap", {"n_samples": 10**9}, "`n_samples` must be at most 1000000"),
        ("hsic", {"n_samples": 10**6}, "`n_samples` must be at most 20000"),
        ("shapley_sampling", {"n_permutations": 10**9}, "`n_permutations` must be at most 10000"),
        ("sobol", {"n_designs": 10**9}, "`n_designs` must be at most 10000"),
        ("lime", {"kernel_width": 0.0}, "`kernel_width` must be above 0, got 0.0"),
        ("lime", {"alpha": -1.0}, "`alpha` must be above 0, got -1.0"),
        ("lime", {"n_samples": 1}, "`n_samples` must be an integer of at least 2, got 1"),
        ("kernel_shap", {"n_samples": 17}, "`n_samples` must be at least 18 for 9 segments"),
        ("kernel_shap", {"baseline": "grey"}, "`baseline` must be an array or one of"),
        ("kernel_shap", {"memory": 0}, "`memory` must be a number of MB above 0"),
        ("shapley_sampling", {"n_permutations": 0}, "`n_permutations` must be an integer"),
        ("owen", {"depth": 9}, "`depth` must be at most 8, got 9"),
        ("sobol", {"n_designs": 1}, "`n_designs` must be an integer of at least 2"),
        ("hsic", {"n_samples": 2.5}, "`n_samples` must be an integer"),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(name, options, message):
    with pytest.raises(MethodError, match=message):
        explain(name, **options)


# Superpixels


def halves():
    """Two images of two colours each: left and right, and above and below."""
    images = 0.3 * np.random.default_rng(0).random((2, 64, 64, 3)).astype(np.float32)
    images[0, :, :30] += [1, 0.2, 0.1]
    images[1, 17:] += [0.1, 0.9, 0.2]
    return images


@pytest.mark.parametrize("kind", ["felzenszwalb", "quickshift", "slic"])
def test_superpixels_are_those_of_each_image(kind):
    pytest.importorskip("skimage")
    images, backend = halves(), ReferenceBackend(pooled_network(size=64))
    options = {"segments": kind, "baseline": "zeros", "n_permutations": 2, "target": 1}
    together = xaimaps.attribute(backend, images, "shapley_sampling", **options)
    segmentation = pytest.importorskip("skimage.segmentation")
    settings = {
        "slic": {"n_segments": 50},
        "quickshift": {"kernel_size": 4, "max_dist": 200, "ratio": 0.2},
        "felzenszwalb": {"scale": 200, "sigma": 0.8, "min_size": 150},
    }[kind]
    for i, image in enumerate(images):
        scaled = (image.astype(float) - image.min()) / np.ptp(image)
        labels = getattr(segmentation, kind)(scaled, **settings)
        own = {**options, "segments": labels}
        alone = xaimaps.attribute(backend, images[i : i + 1], "shapley_sampling", **own)
        np.testing.assert_allclose(together.maps[i], alone.maps[0], atol=1e-6)


def test_a_mirrored_image_has_mirrored_segments():
    labels = (np.arange(81).reshape(9, 9) % 9 > 5).astype(int) + 2 * (np.arange(9) > 3)[:, None]
    options = {"segments": labels, "n_samples": 14, "augment": "flip"}
    found = explain("kernel_shap", **options).maps[0]
    assert len(np.unique(found)) == 4
    mirrored = explain("kernel_shap", STORED["image"][:, :, ::-1], segments=labels[:, ::-1])
    plain = explain("kernel_shap", segments=labels)
    np.testing.assert_allclose(found, (plain.maps[0] + mirrored.maps[0][:, ::-1]) / 2, atol=1e-6)


def test_superpixels_need_a_picture_and_scikit_image(monkeypatch):
    backend, images = ReferenceBackend(pooled_network()), np.repeat(STORED["image"], 2, axis=0)
    with pytest.raises(MethodError, match=r"needs one picture, .* `xaimaps.attribute`"):
        METHODS["lime"].fn(backend, images, 2, segments="slic")
    with pytest.raises(MethodError, match="2 to 1000 segments, got 1"):
        explain("lime", 0 * images, segments="felzenszwalb")
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(MethodError, match=r"skimage.* not installed.*superpixels"):
        explain("lime", segments="slic")


def test_more_segments_than_fit_into_memory_are_refused():
    backend = ReferenceBackend(pooled_network(size=64))
    with pytest.raises(MethodError, match="2 to 1000 segments, got 4096"):
        explain("lime", np.zeros((1, 64, 64, 3), np.float32), backend, segments=500)
