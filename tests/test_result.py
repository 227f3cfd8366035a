"""`Attribution`: its answers in words and in pictures."""

import numpy as np
import pytest

import xaimaps
from xaimaps._results import render
from xaimaps.errors import ArrayInputError, ModelLoadError
from xaimaps.targets import several

PICTURE = np.random.default_rng(2).integers(0, 256, (20, 30, 3), np.uint8)


@pytest.fixture
def found(pooled):
    return xaimaps.explain(pooled, PICTURE, target=several(1, 4))


def test_top_is_a_softmax_over_the_scores(pooled, images):
    pooled.info.ending = "softmax"
    result = xaimaps.attribute(pooled, images)
    powers = np.exp(result.scores[3].astype(np.float64))
    top = result.top(5, index=3)
    assert [one.index for one in top] == np.argsort(-result.scores[3]).tolist()
    assert [one.label for one in top] == [pooled.info.labels[one.index] for one in top]
    for one in top:
        assert one.score == result.scores[3, one.index]
        assert one.probability == pytest.approx(powers[one.index] / powers.sum(), rel=1e-6)
    assert len(result.top(2)) == 2
    assert len(result.top(99)) == 5


def test_probabilities_of_huge_scores_do_not_overflow(pooled, images):
    pooled.info.ending = "softmax"
    result = xaimaps.attribute(pooled, images * np.float32(1e20))
    assert sum(one.probability for one in result.top()) == pytest.approx(1)


def test_top_needs_a_row_of_classes(pooled, images):
    result = xaimaps.attribute(pooled, images)
    object.__setattr__(result, "scores", np.zeros((7, 2, 2, 5)))
    with pytest.raises(ArrayInputError, match="got shape"):
        result.top()


def test_labels_that_are_missing(pooled, images):
    pooled.info.labels = None
    assert xaimaps.attribute(pooled, images).label(0) == "class 0"
    pooled.info.labels = ("tench",)
    with pytest.raises(ModelLoadError, match="5 classes, got 1 names"):
        xaimaps.attribute(pooled, images)


def test_probabilities_are_the_models_own(pooled, images):
    pooled.info.ending = "softmax"
    found = xaimaps.attribute(pooled, images)
    scores = found.scores[0].astype(np.float64)
    softmax = np.exp(scores) / np.exp(scores).sum()
    assert found.top(1)[0].probability == pytest.approx(softmax.max())
    pooled.info.ending = "sigmoid"
    assert found.top(1)[0].probability == pytest.approx(1 / (1 + np.exp(-scores.max())))


def test_outputs_that_are_probabilities_stay_so(pooled, images):
    """As the mean of two softmaxes, of which none can be bypassed."""
    found = xaimaps.attribute(pooled, images)
    rows = np.float32([[0.1, 0.592, 0.108, 0.2, 0]])
    object.__setattr__(found, "scores", rows)
    assert found.top(1)[0].probability == pytest.approx(0.592)
    pooled.info.ending = "softmax"  # then these are logits
    assert found.top(1)[0].probability == pytest.approx(np.exp(0.592) / np.exp(rows).sum())


@pytest.mark.parametrize(
    "row",
    [
        [0.277, -0.209],  # two angles
        [37.4, 34.1, 28.5],  # a softmax in percent
        [0.374, 0.285],  # a part of a softmax
        [0.6, -0.8],  # an embedding of length 1
    ],
)
def test_outputs_without_an_ending_have_no_probability(pooled, images, row):
    pooled.info.labels = None
    found = xaimaps.attribute(pooled, images)
    object.__setattr__(found, "scores", np.float32([row]))
    assert [one.probability for one in found.top()] == [None] * len(row)


def test_classes_that_exclude_each_other_have_a_softmax():
    """The logits of the embedded network, whose labels are an embedded list."""
    model = xaimaps.load("default", labels="imagenet-1k")
    assert model.info.ending is None
    found = xaimaps.attribute(model, np.zeros((1, 224, 224, 3), np.float32), "saliency")
    assert sum(one.probability for one in found.top(1000)) == pytest.approx(1)


def test_one_output_has_a_probability_behind_a_sigmoid_only(pooled, images):
    found = xaimaps.attribute(pooled, images)
    object.__setattr__(found, "scores", np.float32([[34.4]]))
    assert found.top(1)[0].probability is None
    pooled.info.ending = "sigmoid"
    assert found.top(1)[0].probability == pytest.approx(1)


@pytest.mark.parametrize("call", ["heatmap", "top"])
def test_an_image_that_is_not_there(pooled, images, call):
    found = xaimaps.attribute(pooled, images)
    with pytest.raises(ArrayInputError, match="from 0 to 6, got 9"):
        getattr(found, call)(index=9)


@pytest.mark.parametrize("k", [0, 1])
def test_pictures_are_the_renderers(found, k):
    values, view = found.maps[0, k], found.views[0]
    heatmap = render.heatmap(values, (20, 20), signed=False, percentile=100)
    np.testing.assert_array_equal(found.heatmap(target=k), heatmap)
    colours = render.heatmap(values, view.shape[:2], signed=False, percentile=100)
    overlay = render.blend(view, colours, 0.25)
    np.testing.assert_array_equal(found.overlay(target=k, alpha=0.25), overlay)
    np.testing.assert_array_equal(found.overlay(target=k, alpha=0), view)


def test_sizes_and_colours(found):
    assert found.heatmap(size=(11, 12)).size == (12, 11)
    grey = np.asarray(found.heatmap(colormap="gray"))
    np.testing.assert_array_equal(grey[..., 0], grey[..., 1])


def test_arrays_have_heat_maps_but_no_overlay(pooled, images):
    result = xaimaps.attribute(pooled, images)
    assert result.heatmap(3).size == (5, 5)
    with pytest.raises(ArrayInputError, match="got only an array; use heatmap"):
        result.overlay()


def test_maps_with_channels_are_not_drawn(pooled):
    result = xaimaps.explain(pooled, PICTURE, "saliency", reduce=None)
    for draw in (result.heatmap, result.overlay):
        with pytest.raises(ArrayInputError, match="a `reduce` other than None"):
            draw()


@pytest.mark.parametrize(
    ("method", "options", "signed"),
    [
        ("grad_cam", {}, False),
        ("cam", {}, False),
        ("saliency", {}, False),
        ("saliency", {"absolute": False}, True),
        ("input_x_gradient", {}, True),
    ],
)
def test_signed_gradients_show_both_signs(pooled, images, method, options, signed):
    result = xaimaps.attribute(pooled, images, method, **options)
    assert result.display[0].signed is signed
    colours = {tuple(pixel) for pixel in np.asarray(result.heatmap()).reshape(-1, 3).tolist()}
    blue = any(b > r + 50 for r, _, b in colours)
    red = any(r > b + 50 for r, _, b in colours)
    assert red
    assert blue is signed or not signed


def test_a_map_of_zeros_is_drawn_in_one_colour(pooled):
    result = xaimaps.explain(pooled, PICTURE)
    result.maps[:] = 0
    assert len(np.unique(np.asarray(result.heatmap()).reshape(-1, 3), axis=0)) == 1
