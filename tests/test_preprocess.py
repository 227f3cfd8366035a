"""Presets, crops and their inverse, against closed forms and Pillow."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from xaimaps._images.preprocess import PRESETS, Preprocess, crop_box, get_preprocess
from xaimaps.errors import ArrayInputError, InputImageError

RANDOM = np.random.default_rng(3)
PIXELS = RANDOM.integers(0, 256, (48, 64, 3), np.uint8)
ALL = np.stack([np.arange(256)] * 3, -1).astype(np.uint8)

ENDS = {  # what 0 and 255 become, in the model's channel order
    "unit": ([0, 0, 0], [1, 1, 1]),
    "tf": ([-1, -1, -1], [1, 1, 1]),
    "torch": (
        [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225],
        [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225],
    ),
    "imagenet": (
        [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225],
        [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225],
    ),
    "caffe": ([-103.939, -116.779, -123.68], [151.061, 138.221, 131.32]),
    "raw": ([0, 0, 0], [255, 255, 255]),
    "native": ([0, 0, 0], [255, 255, 255]),
}


def test_presets_are_those_of_the_table():
    assert set(PRESETS) == set(ENDS)
    assert all(preset.name == name for name, preset in PRESETS.items())
    with pytest.raises(TypeError):
        PRESETS["mine"] = PRESETS["tf"]


@pytest.mark.parametrize("name", ENDS)
def test_values_at_both_ends(name):
    preset = PRESETS[name]
    result = preset.values(np.array([[0, 0, 0], [255, 255, 255]], np.uint8))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, ENDS[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ENDS)
def test_values_are_exactly_the_float32_formula(name):
    preset = PRESETS[name]
    x = PIXELS[..., ::-1] if preset.channels == "BGR" else PIXELS
    f32 = np.float32
    mean, std = np.array(preset.mean, f32), np.array(preset.std, f32)
    expected = ((x.astype(f32) * f32(preset.scale)) - mean) / std
    np.testing.assert_array_equal(preset.values(PIXELS), expected)
    np.testing.assert_array_equal(preset.values(PIXELS[None])[0], expected)


def test_bgr_swaps_the_channels():
    red = np.array([255, 0, 0], np.uint8)
    np.testing.assert_allclose(PRESETS["caffe"].values(red), [-103.939, -116.779, 131.32])


@pytest.mark.parametrize("name", ENDS)
def test_inverse_gives_every_pixel_back(name):
    preset = PRESETS[name]
    for pixels in (ALL, PIXELS, PIXELS[None]):
        np.testing.assert_array_equal(preset.inverse(preset.values(pixels)), pixels)


def test_inverse_clips_and_refuses_nan():
    np.testing.assert_array_equal(
        PRESETS["unit"].inverse(np.array([-1.0, 0.5, 2.0])), [0, 128, 255]
    )
    with pytest.raises(ArrayInputError, match="finite"):
        PRESETS["unit"].inverse(np.array([0, np.nan, 0]))


@pytest.mark.parametrize("name", ["torch", "caffe"])
@pytest.mark.parametrize("shape", [(), (4,), (4, 4, 1), (3, 4, 4)])
def test_channels_apart_are_for_three_channels_last(name, shape):
    for call in (PRESETS[name].values, PRESETS[name].inverse):
        with pytest.raises(ArrayInputError, match="3 channels on the last axis"):
            call(np.zeros(shape))


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_one_mean_is_for_any_number_of_channels(count):
    pixels = RANDOM.integers(0, 256, (5, 6, count), np.uint8)
    expected = pixels.astype(np.float32) * np.float32(1 / 127.5) - np.float32(1)
    np.testing.assert_array_equal(PRESETS["tf"].values(pixels), expected)
    np.testing.assert_array_equal(PRESETS["tf"].inverse(expected), pixels)


def test_a_mean_and_a_deviation_for_each_band():
    mean, std = tuple(range(8)), tuple(range(1, 9))
    bands = Preprocess("bands", 2.0, mean, std)
    pixels = RANDOM.integers(0, 256, (5, 6, 8), np.uint8)
    expected = (pixels.astype(np.float32) * 2 - np.array(mean, "f4")) / np.array(std, "f4")
    np.testing.assert_array_equal(bands.values(pixels), expected)
    with pytest.raises(ArrayInputError, match="'bands' is for 8 channels"):
        bands.values(pixels[..., :3])


@pytest.mark.parametrize(
    ("shape", "size", "fraction", "box"),
    [
        ((48, 64), (224, 224), 1, (0, 8, 48, 48)),
        ((64, 48), (224, 224), 1, (8, 0, 48, 48)),
        ((256, 256), (224, 224), 0.875, (16, 16, 224, 224)),
        ((100, 100), (50, 100), 1, (25, 0, 50, 100)),
        ((100, 200), (100, 100), 0.5, (25, 75, 50, 50)),
        ((1, 65_000), (224, 224), 1, (0, 32_499, 1, 1)),
        ((1, 1), (224, 224), 0.1, (0, 0, 1, 1)),
        ((7, 4), (3, 3), 1, (1, 0, 4, 4)),
    ],
)
def test_crop_box(shape, size, fraction, box):
    assert crop_box(shape, size, fraction) == box


def test_crop_box_stays_inside():
    for _ in range(2000):
        shape, size = RANDOM.integers(1, 400, 2), RANDOM.integers(1, 400, 2)
        top, left, height, width = crop_box(tuple(shape), tuple(size), RANDOM.uniform(0.01, 1))
        assert top >= 0
        assert left >= 0
        assert top + height <= shape[0]
        assert left + width <= shape[1]


def test_views():
    crop, stretch, pad = (
        dataclasses.replace(PRESETS["unit"], fit=fit) for fit in ("crop", "stretch", "pad")
    )
    np.testing.assert_array_equal(crop.view(PIXELS, (32, 32)), PIXELS[:, 8:56])
    np.testing.assert_array_equal(stretch.view(PIXELS, (32, 32)), PIXELS)
    padded = pad.view(PIXELS, (32, 32))
    assert padded.shape == (64, 64, 3)
    np.testing.assert_array_equal(padded[8:56], PIXELS)
    assert not padded[:8].any()
    assert not padded[56:].any()
    np.testing.assert_array_equal(pad.view(PIXELS, (48, 64)), PIXELS)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest", "lanczos"])
def test_call_is_crop_resize_values(interpolation):
    preset = dataclasses.replace(PRESETS["torch"], interpolation=interpolation, crop_fraction=0.875)
    image = Image.fromarray(PIXELS[3:45, 11:53])
    resized = image.resize((20, 20), Image.Resampling[interpolation.upper()])
    result = preset(PIXELS, (20, 20))
    assert (result.shape, result.dtype) == ((20, 20, 3), np.float32)
    np.testing.assert_array_equal(result, preset.values(np.asarray(resized)))


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (24, 40)])
def test_every_shape_gets_the_models_size(fit, shape):
    preset = dataclasses.replace(PRESETS["tf"], fit=fit)
    result = preset(np.full((*shape, 3), 255, np.uint8), (24, 40))
    assert result.shape == (24, 40, 3)
    if fit == "pad":
        assert result.max() > -1, "something of the picture is left"
    else:
        assert (result == 1).all(), "a constant picture stays constant"


def test_the_models_own_size_is_not_resampled():
    np.testing.assert_array_equal(PRESETS["raw"](PIXELS, (48, 64)), PIXELS)


def test_padding_has_a_limit():
    pad = dataclasses.replace(PRESETS["unit"], fit="pad")
    with pytest.raises(InputImageError, match="fit='crop'"):
        pad(np.zeros((1, 65_000, 3), np.uint8), (224, 224))


def test_deep_pixels_are_resized_in_floating_point_and_do_not_overshoot():
    deep = np.where(RANDOM.random((48, 64, 2)) < 0.5, np.float32(0), np.float32(255))
    image = Image.fromarray(np.ascontiguousarray(deep[:, 8:56, 1]))
    expected = np.clip(np.asarray(image.resize((20, 20), Image.Resampling.BICUBIC)), 0, 255)
    np.testing.assert_array_equal(PRESETS["raw"](deep, (20, 20))[..., 1], expected)


@pytest.mark.parametrize("pixels", [PIXELS / 255, PIXELS[..., 0], PIXELS[None], PIXELS[:0]])
def test_pictures_only(pixels):
    with pytest.raises(ArrayInputError, match="open_picture"):
        PRESETS["unit"](pixels, (8, 8))


def test_sizes_have_pixels():
    with pytest.raises(ArrayInputError, match="at least 1"):
        PRESETS["unit"](PIXELS, (0, 8))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"fit": "cropp"}, "'crop'"),
        ({"channels": "GBR"}, "BGR"),
        ({"interpolation": "cubic"}, "bicubic"),
        ({"crop_fraction": 0.0}, "crop_fraction"),
        ({"crop_fraction": 1.5}, "1.5"),
        ({"scale": 0.0}, "must not be zero"),
        ({"std": (1.0, 0.0, 1.0)}, "must not be zero"),
        ({"mean": 0.5}, r"`mean` must be a tuple of numbers, got 0\.5"),
        ({"std": ()}, r"`std` must be a tuple of numbers, got \(\)"),
        ({"mean": ("a",)}, "`mean` must be"),
        ({"window": (5, 5)}, r"lower one first, got \(5, 5\)"),
    ],
)
def test_nonsense_is_refused_when_made(change, word):
    with pytest.raises(ArrayInputError, match=word):
        dataclasses.replace(PRESETS["unit"], **change)


def test_get_preprocess():
    mine = Preprocess("mine", 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert get_preprocess(mine) is mine
    assert get_preprocess("caffe") is PRESETS["caffe"]
    with pytest.raises(
        ArrayInputError, match=r"unit, tf, torch, imagenet, caffe, raw, nati.*'torhc'.*'torch'"
    ):
        get_preprocess("torhc")
