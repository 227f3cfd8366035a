"""Occlusion and RISE against Captum's and PAIR's values, and against loops over masks."""

import numpy as np
import pytest

import xaimaps
from xaimaps.errors import MethodError
from xaimaps.methods import METHODS, occlusion, rise
from xaimaps.methods.rise import draw_masks
from xaimaps.targets import several
from xaimaps.testing import Conv, Dense, Flatten, GlobalAveragePool, Network, ReferenceBackend, ReLU


def close(actual, desired, tolerance=1e-5):
    np.testing.assert_allclose(actual, desired, rtol=tolerance, atol=tolerance)


def captums_network():
    """Captum's BasicModel_MultiLayer, over an image of three pixels in a row."""
    ones, bias = np.ones((3, 4), np.float32), np.float32([-10, 1, 1, 1])
    last = np.float32([[1, -1]] * 4)
    layers = {
        "flatten": Flatten(),
        "linear1": Dense(ones, bias),
        "relu": ReLU(),
        "linear2": Dense(last, np.zeros(2, np.float32)),
    }
    return ReferenceBackend(Network(layers, (1, 3, 1)))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"window": (1, 1), "stride": (1, 1)}, [80, 200, 120]),
        ({"window": (1, 2), "stride": (1, 2)}, [280, 280, 120]),
        (
            {"window": (1, 2), "stride": 1, "baseline": np.full((1, 3, 1), 10, np.float32)},
            [200, 220, 240],
        ),
    ],
)
def test_occlusion_has_captums_values(options, expected):
    image = np.float32([20, 50, 30]).reshape(1, 1, 3, 1)
    close(occlusion(captums_network(), image, 0, **options).maps, [[expected]])


def test_occlusion_has_pairs_values():
    head = Dense(np.float32([[75]]), np.zeros(1, np.float32))  # 3 x the sum of 25 pixels
    backend = ReferenceBackend(Network({"pool": GlobalAveragePool(), "fc": head}, (5, 5, 1)))
    image = np.zeros((1, 5, 5, 1), np.float32)
    image[0, [1, 3], [1, 3]] = 1
    expected = [
        [3, 6, 6, 3, 0],
        [6, 15, 18, 12, 3],
        [6, 18, 24, 18, 6],
        [3, 12, 18, 15, 6],
        [0, 3, 6, 6, 3],
    ]
    close(occlusion(backend, image, 0, window=3, stride=1, variant="sum").maps, [expected])


@pytest.mark.parametrize("variant", ["mean", "sum"])
@pytest.mark.parametrize("baseline", ["zeros", "gray", "mean"])
def test_occlusion_one_window_at_a_time(pooled, images, variant, baseline):
    whole = occlusion(
        pooled, images, 2, window=(4, 3), stride=(3, 2), variant=variant, baseline=baseline
    )
    grey = {"zeros": 0, "gray": 0.5, "mean": images.mean(axis=(1, 2))[:, None, None]}[baseline]
    total, count = np.zeros((7, 9, 9)), np.zeros((9, 9))
    for top in (0, 3, 6):
        for left in (0, 2, 4, 6):
            place = (slice(top, top + 4), slice(left, left + 3))
            hidden = images.copy()
            hidden[:, *place] = grey
            drop = pooled.forward(images)[:, 2] - pooled.forward(hidden)[:, 2]
            total[:, *place] += drop[:, None, None]
            count[place] += 1
    close(whole.maps, total / count if variant == "mean" else total, 1e-4)


def test_where_no_window_is_the_map_is_zero_and_not_nan(pooled, images):
    maps = occlusion(pooled, images, 2, window=1, stride=1).maps
    assert np.isfinite(maps).all()
    constant = np.zeros((1, 9, 9, 3), np.float32)
    np.testing.assert_array_equal(occlusion(pooled, constant, 2, baseline="zeros").maps, 0)


# RISE


def masks_of(cells, moves, size):
    """Bilinear enlargement to a cell more than the image, cut; without matrices."""
    grid = cells.shape[-1]
    cell = -(-size // grid)
    places = np.clip(
        (np.arange((grid + 1) * cell) + 0.5) * grid / ((grid + 1) * cell) - 0.5, 0, grid - 1
    )
    low = places.astype(int)
    high, part = np.minimum(low + 1, grid - 1), places % 1
    for one, (down, right) in zip(cells, moves, strict=True):
        rows = (1 - part)[:, None] * one[low] + part[:, None] * one[high]
        whole = (1 - part) * rows[:, low] + part * rows[:, high]
        yield whole[down : down + size, right : right + size]


@pytest.mark.parametrize("variant", ["paper", "xplique", "centred"])
@pytest.mark.parametrize("probability", [True, False])
def test_rise_one_mask_at_a_time(pooled, images, variant, probability):
    options = {"n_masks": 30, "grid": 4, "p": 0.3, "seed": 3}
    found = rise(pooled, images, 1, variant=variant, probability=probability, **options).maps
    drawn = draw_masks((9, 9, 3), **options)
    masks = np.stack(list(masks_of(drawn["cells"], drawn["moves"], 9)))
    outputs = np.stack([pooled.forward(images * m[..., None]).astype(float) for m in masks])
    if probability:
        outputs = np.exp(outputs) / np.exp(outputs).sum(axis=-1, keepdims=True)
    scores = outputs[..., 1] - (outputs[..., 1].mean(axis=0) if variant == "centred" else 0)
    total = np.einsum("vn,vhw->nhw", scores, masks)
    close(found, total / (masks.sum(axis=0) if variant == "xplique" else 0.3 * 30), 1e-4)


def test_drawn_masks_are_ones_and_zeros_and_move_within_a_cell():
    drawn = draw_masks((224, 200, 3), n_masks=2000, grid=7, p=0.25)
    assert set(np.unique(drawn["cells"])) == {0, 1}
    assert drawn["cells"].mean() == pytest.approx(0.25, abs=0.01)
    assert (drawn["moves"].min(axis=0) == 0).all()
    assert drawn["moves"].max(axis=0).tolist() == [31, 28]


def test_rise_is_that_of_the_seed_by_either_way_in(pooled, images):
    first = rise(pooled, images, 1, n_masks=20, seed=4).maps
    np.testing.assert_array_equal(rise(pooled, images, 1, n_masks=20, seed=4).maps, first)
    assert not np.array_equal(rise(pooled, images, 1, n_masks=20, seed=5).maps, first)
    attributed = xaimaps.attribute(pooled, images, "rise", target=1, n_masks=20, seed=4)
    close(attributed.maps, first)
    assert (attributed.layer, attributed.options["n_masks"]) == (None, 20)


def test_rise_finds_the_only_pixel_that_counts():
    weights = np.zeros((81, 1), np.float32)
    weights[9 * 2 + 6] = 1
    layers = {"flatten": Flatten(), "fc": Dense(weights, np.zeros(1, np.float32))}
    backend = ReferenceBackend(Network(layers, (9, 9, 1)))
    maps = rise(backend, np.ones((1, 9, 9, 1), np.float32), 0, probability=False, grid=9).maps
    assert np.unravel_index(maps[0].argmax(), (9, 9)) == (2, 6)


@pytest.mark.parametrize("name", ["occlusion", "rise"])
def test_laws(pooled, images, name):
    options = {"n_masks": 12} if name == "rise" else {"window": 3}
    whole = METHODS[name].fn(pooled, images, several(1, None), **options)
    assert whole.maps.shape == (2, 7, 9, 9)
    order = [3, 0, 6, 1, 5, 2, 4]
    close(METHODS[name].fn(pooled, images[order], 1, **options).maps, whole.maps[0][order], 1e-4)
    close(METHODS[name].fn(pooled, images[2:3], None, **options).maps, whole.maps[1, 2:3], 1e-4)
    small = METHODS[name].fn(pooled, images, 1, memory=1e-6, **options).maps
    close(small, whole.maps[0], 1e-4)
    assert METHODS[name].needs == {"forward"}


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("occlusion", {"window": 10}, "fit the image"),
        ("occlusion", {"window": 3, "stride": 4}, "`stride` the window"),
        ("occlusion", {"window": 0}, "`window`"),
        ("occlusion", {"stride": 0}, "`stride`"),
        ("occlusion", {"window": (1, 2, 3)}, "one size or one for each of 2 axes"),
        ("occlusion", {"window": 2.5}, "`window`"),
        ("occlusion", {"variant": "max"}, "got 'max'"),
        ("occlusion", {"baseline": "green"}, "`baseline`"),
        ("occlusion", {"baseline": np.zeros((2, 9, 9, 3), np.float32)}, "one image, got 2"),
        ("rise", {"n_masks": 0}, "`n_masks`"),
        ("rise", {"grid": 0}, "`grid`"),
        ("rise", {"p": 0}, "`p`"),
        ("rise", {"p": 1.5}, "`p`"),
        ("rise", {"variant": "max"}, "got 'max'"),
    ],
)
def test_wrong_options(pooled, images, method, options, message):
    with pytest.raises(MethodError, match=message):
        xaimaps.attribute(pooled, images, method, **options)


@pytest.mark.parametrize(("baseline", "value"), [("black", -1), ("white", 1), ("gray", 0)])
def test_a_colour_of_a_model_of_one_channel(baseline, value):
    """A score that is linear in each pixel: hiding one takes its weight times the change."""
    weights = np.arange(1, 17, dtype=np.float32).reshape(16, 1)
    network = Network({"flat": Flatten(), "dense": Dense(weights, np.zeros(1))}, (4, 4, 1))
    model = ReferenceBackend(network)
    model.info.preprocess = xaimaps.PRESETS["tf"]
    image = np.random.default_rng(0).uniform(-1, 1, (1, 4, 4, 1)).astype(np.float32)
    expected = (weights.reshape(1, 4, 4, 1) * (image - value))[..., 0]
    options = {"window": 1, "stride": 1, "baseline": baseline, "target": "output:0"}
    found = xaimaps.attribute(model, image, "occlusion", **options)
    np.testing.assert_allclose(found.maps, expected, rtol=1e-4, atol=1e-4)
    paths = xaimaps.attribute(
        model, image, "integrated_gradients", baseline=baseline, target="output:0"
    )
    np.testing.assert_allclose(paths.maps, expected, rtol=1e-4, atol=1e-4)


# Probabilities


def of_mean(weights, labels=None, ending=None):
    """Return a network of 9 x 9 grey pixels whose outputs are the mean pixel times the weights."""
    layers = {
        "conv": Conv(np.ones((1, 1, 1, 1), np.float32), np.zeros(1, np.float32)),
        "pool": GlobalAveragePool(),
        "fc": Dense(np.float32([weights]), np.zeros(len(weights), np.float32)),
    }
    model = ReferenceBackend(Network(layers, (9, 9, 1)))
    model.info.labels, model.info.ending = labels, ending
    return model


def sigmoid(x):
    return 1 / (1 + np.exp(-np.float64(x)))


@pytest.mark.parametrize(
    ("model", "target", "by_hand"),
    [
        (of_mean([4], ending="sigmoid"), 0, lambda mean: sigmoid(4 * mean)),
        (of_mean([4], ("no", "yes"), "sigmoid"), "no", lambda mean: sigmoid(-4 * mean)),
        (of_mean([4], ("no", "yes")), "no", lambda mean: -4 * mean),
        (of_mean([4]), 0, lambda mean: 4 * mean),
        (of_mean([4, 2], ending="sigmoid"), 1, lambda mean: sigmoid(2 * mean)),
        (of_mean([4, 2], ending="softmax"), 1, lambda mean: sigmoid(-2 * mean)),
        (of_mean([4, 2]), "output:1", lambda mean: 2 * mean),
        (of_mean([4, 2]), "0 vs 1", lambda mean: 2 * mean),
    ],
)
def test_probabilities_are_those_of_classes(model, target, by_hand):
    image = np.random.default_rng(3).random((1, 9, 9, 1), np.float32)
    options = {"n_masks": 10, "grid": 3, "seed": 0}
    found = xaimaps.attribute(model, image, "rise", target=target, **options)
    drawn = draw_masks((9, 9, 1), **options)
    masks = np.stack(list(masks_of(drawn["cells"], drawn["moves"], 9)))
    scores = by_hand((masks * image[0, ..., 0]).mean(axis=(1, 2)))
    close(found.maps[0], np.einsum("v,vhw->hw", scores, masks) / (0.5 * 10), 1e-4)
    # Recipro-CAM keeps a position and its neighbours, and its map is their score alone.
    plain = xaimaps.attribute(model, image, "recipro_cam", target="output:0", gaussian=False)
    mean = plain.maps / 4
    found = xaimaps.attribute(model, image, "recipro_cam", target=target, gaussian=False)
    close(found.maps, by_hand(mean), 1e-4)
