"""Resizing against closed forms and other libraries; the laws of normalising and blending."""

import subprocess
import sys
import threading

import matplotlib
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from xaimaps._resampling import linear_weights
from xaimaps._results.render import (
    blend,
    colorize,
    figure,
    heatmap,
    normalize,
    resize_maps,
)
from xaimaps.errors import ArrayInputError

RANDOM = np.random.default_rng(5)
MAPS = RANDOM.normal(size=(2, 3, 7, 5)).astype(np.float32)
PIXELS = RANDOM.integers(0, 256, (20, 30, 3), np.uint8)
NOT_FINITE = [np.nan, np.inf, -np.inf]


def overlay(pixels, values, alpha=0.5, **options):
    return blend(pixels, heatmap(values, pixels.shape[:2], **options), alpha)


# Resizing


def test_weights_in_closed_form():
    np.testing.assert_array_equal(
        linear_weights(2, 4), np.float32([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    )
    np.testing.assert_array_equal(
        linear_weights(4, 2), np.float32([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    )
    np.testing.assert_array_equal(linear_weights(5, 5), np.eye(5))
    np.testing.assert_array_equal(linear_weights(1, 3), np.ones((3, 1)))
    np.testing.assert_array_equal(linear_weights(8, 2)[0], [0, 0.5, 0.5, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("n_in", [1, 2, 3, 7, 14, 100])
@pytest.mark.parametrize("n_out", [1, 2, 5, 7, 224, 333])
def test_weights_average_two_neighbours(n_in, n_out):
    weights = linear_weights(n_in, n_out)
    assert weights.shape == (n_out, n_in)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    assert weights.min() >= 0
    assert (weights > 0).sum(1).max() <= 2
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-6)  # mirrored alike


@pytest.mark.parametrize("size", [(7, 5), (14, 10), (20, 31), (224, 224)])
def test_growing_is_what_pillow_and_scipy_do(size):
    ours = resize_maps(MAPS, size)
    assert ours.shape == (2, 3, *size)
    assert ours.dtype == np.float32
    image = Image.fromarray(MAPS[1, 2]).resize(size[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_allclose(ours[1, 2], np.asarray(image), atol=2e-6)
    zoomed = ndimage.zoom(
        MAPS[1, 2], np.divide(size, (7, 5)), order=1, mode="nearest", grid_mode=True
    )
    np.testing.assert_allclose(ours[1, 2], zoomed, atol=2e-6)


def test_shrinking_is_plain_bilinear():
    rows, columns = np.meshgrid((np.arange(3) + 0.5) * 7 / 3 - 0.5, np.array([2.0]), indexing="ij")
    expected = ndimage.map_coordinates(MAPS[0, 0], [rows, columns], order=1, mode="nearest")
    np.testing.assert_allclose(resize_maps(MAPS[0, 0], (3, 1)), expected, atol=1e-6)


def test_resize_keeps_constants_and_range():
    np.testing.assert_allclose(resize_maps(np.full((3, 3), 7.0), (50, 41)), 7, rtol=1e-6)
    grown = resize_maps(MAPS, (50, 41))
    assert grown.max() <= MAPS.max() + 1e-6
    assert grown.min() >= MAPS.min() - 1e-6


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0), (-1, 3)])
def test_no_empty_resize(sizes):
    with pytest.raises(ArrayInputError, match="at least 1"):
        linear_weights(*sizes)


# Normalising


def test_positive_part_over_its_maximum():
    maps = np.array([[[-4, 2], [1, 0]], [[-1, -2], [-3, 0]], [[0, 0], [0, 0]]], np.float32)
    shown = normalize(maps)
    assert shown.dtype == np.float32
    np.testing.assert_array_equal(shown[0], [[0, 1], [0.5, 0]])
    assert not shown[1].any()
    assert not shown[2].any()


def test_signed_over_the_largest_magnitude():
    maps = np.array([[[-4, 2], [1, 0]], [[0, 0], [0, 0]]], np.float32)
    shown = normalize(maps, signed=True)
    np.testing.assert_array_equal(shown, [[[-1, 0.5], [0.25, 0]], [[0, 0], [0, 0]]])


@pytest.mark.parametrize("signed", [False, True])
def test_laws(signed):
    shown = normalize(MAPS, signed=signed)
    np.testing.assert_array_equal(np.abs(shown).max((-2, -1)), 1)
    np.testing.assert_array_equal(normalize(shown, signed=signed), shown)
    np.testing.assert_array_equal(normalize(MAPS * 8, signed=signed), shown)
    np.testing.assert_array_equal(normalize(MAPS[1, 2], signed=signed), shown[1, 2])
    if signed:
        np.testing.assert_array_equal(normalize(-MAPS, signed=True), -shown)


@pytest.mark.parametrize("scale", [1e-45, 1e-38, 1e38, 3e38])
def test_extreme_scales(scale):
    maps = np.array([[1, -1], [0, 0.5]]) * scale
    for dtype in (np.float32, np.float64):
        shown = normalize(maps.astype(dtype), signed=True)
        assert np.isfinite(shown).all()
        assert (shown[0, 0], shown[0, 1]) == (1, -1)


def test_integers_and_empty_batches():
    np.testing.assert_array_equal(normalize(np.array([[0, 4]])), [[0, 1]])
    assert normalize(np.zeros((0, 7, 7))).shape == (0, 7, 7)


@pytest.mark.parametrize("bad", NOT_FINITE)
@pytest.mark.parametrize(
    "call",
    [
        normalize,
        colorize,
        lambda maps: normalize(maps, signed=True),
        lambda maps: resize_maps(maps, (4, 4)),
        lambda maps: heatmap(maps, (4, 4)),
        lambda maps: overlay(PIXELS, maps),
    ],
)
def test_nan_is_refused(call, bad):
    with pytest.raises(ArrayInputError, match="finite"):
        call(np.array([[0, bad], [1, 0]]))


def test_a_map_has_two_axes():
    with pytest.raises(ArrayInputError, match=r"shape \(3,\)"):
        normalize(np.zeros(3))
    with pytest.raises(ArrayInputError, match=r"maps\[0\]"):
        heatmap(np.zeros((1, 3, 3)), (4, 4))


# Colours


def colour(name, index):
    return matplotlib.colormaps[name](index, bytes=True)[:3]


def test_colours_of_positive_values():
    shown = colorize(np.array([[0, 1], [-3, 7]]))
    assert shown.dtype == np.uint8
    assert shown.shape == (2, 2, 3)
    np.testing.assert_array_equal(shown[0, 0], colour("inferno", 0))
    np.testing.assert_array_equal(shown[0, 1], colour("inferno", 255))
    np.testing.assert_array_equal(shown[1], shown[0])


def test_colours_of_signed_values():
    shown = colorize(np.array([[-1, 0, 1]]), signed=True)[0].astype(int)
    assert shown[0, 2] > shown[0, 0] + 50, "blue below zero"
    assert shown[1].min() > 240, "white at zero"
    assert shown[2, 0] > shown[2, 2] + 50, "red above"


def test_named_colours():
    np.testing.assert_array_equal(
        colorize(np.array([[1.0]]), colormap="viridis")[0, 0], colour("viridis", 255)
    )
    np.testing.assert_array_equal(
        colorize(np.array([[1.0]]), colormap="tab10")[0, 0], colour("tab10", 9)
    )
    with pytest.raises(ArrayInputError, match=r"'viridiss'.*'viridis'"):
        colorize(np.zeros((2, 2)), colormap="viridiss")


def test_heatmap_is_resize_normalize_colorize():
    expected = colorize(normalize(resize_maps(MAPS[0, 0], (20, 30))))
    np.testing.assert_array_equal(heatmap(MAPS[0, 0], (20, 30)), expected)
    zero = heatmap(np.zeros((7, 7)), (3, 4))
    assert (zero == colour("inferno", 0)).all()


# Blending


def test_blend_is_exact_and_does_not_overflow():
    colours = heatmap(MAPS[0, 0], (20, 30))
    np.testing.assert_array_equal(overlay(PIXELS, MAPS[0, 0], alpha=0), PIXELS)
    np.testing.assert_array_equal(overlay(PIXELS, MAPS[0, 0], alpha=1), colours)
    expected = np.rint((PIXELS.astype(float) + colours) / 2)
    np.testing.assert_array_equal(overlay(PIXELS, MAPS[0, 0]), expected)
    white = np.full((4, 4, 3), 255, np.uint8)
    for alpha in (0.1, 0.25, 0.5, 0.9):
        blended = overlay(white, np.ones((2, 2)), alpha=alpha, colormap="Greys_r")
        np.testing.assert_array_equal(blended, white)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, np.nan])
def test_alpha_from_0_to_1(alpha):
    with pytest.raises(ArrayInputError, match="alpha"):
        overlay(PIXELS, MAPS[0, 0], alpha=alpha)


@pytest.mark.parametrize("pixels", [PIXELS / 255, PIXELS[..., 0], PIXELS[None]])
def test_blend_takes_pictures(pixels):
    with pytest.raises(ArrayInputError, match="open_picture"):
        blend(pixels, PIXELS, 0.5)


# Figures


def test_figure_is_a_row_of_titled_panels():
    red, blue = np.zeros((2, 40, 40, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    image = figure([("red, 100 %", red), ("$blue_ 猫", blue)])
    pixels = np.asarray(image)
    assert image.mode == "RGB"
    assert (pixels[0] == 255).all(), "white border"
    middle = pixels[pixels.shape[0] // 2]
    assert (middle[len(middle) // 4] == (255, 0, 0)).all()
    assert (middle[3 * len(middle) // 4] == (0, 0, 255)).all()
    assert (pixels.max(2) < 100).any(), "letters of the titles"


def test_a_title_of_several_lines_is_not_cut():
    square = np.full((40, 40, 3), 255, np.uint8)
    pixels = np.asarray(figure([("model input", square), ("a very long title " * 5, square)]))
    assert (pixels[:3] == 255).all()


def test_figure_without_pyplot():
    code = (
        "import sys, numpy as np; from xaimaps._results.render import figure\n"
        "figure([('a', np.zeros((9, 9, 3), np.uint8))])\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_figure_keeps_the_state_of_matplotlib():
    before = dict(matplotlib.rcParams)
    images = []
    threads = [
        threading.Thread(target=lambda: images.append(np.asarray(figure([("a", PIXELS)]))))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(*images)
    assert dict(matplotlib.rcParams) == before


def test_figure_needs_a_panel():
    with pytest.raises(ArrayInputError, match="panel"):
        figure([])


def test_relative_maps_start_at_their_minimum():
    shown = normalize(np.array([[0.4, 0.5], [0.6, 0.4]]), relative=True)
    np.testing.assert_allclose(shown, [[0, 0.5], [1, 0]], atol=1e-6)
    assert not normalize(np.full((2, 2), 0.4), relative=True).any()
