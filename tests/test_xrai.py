"""XRAI against PAIR's saliency library, its laws, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import xaimaps
from xaimaps._plan import able_methods
from xaimaps.errors import MethodError
from xaimaps.methods import METHODS, xrai
from xaimaps.methods._regions import parts_of, regions_of
from xaimaps.methods.xrai import _Regions
from xaimaps.targets import several
from xaimaps.testing import ReferenceBackend, pooled_network

REFERENCE = np.load(Path(__file__).parent / "references" / "xrai.npz")


def test_regions_are_those_of_pair():
    pytest.importorskip("skimage")
    picture = np.asarray(Image.open(xaimaps.zoo.PICTURES["chelsea"]).convert("RGB"))
    found = regions_of((224, 224), "felzenszwalb", picture[None, 40:264, 120:344] / 127.5 - 1)
    counts = found["members"][0].sum(axis=1).astype(np.uint8)
    np.testing.assert_array_equal(counts[found["labels"][0]], REFERENCE["cover"])


@pytest.mark.parametrize("variant", ["full", "fast"])
def test_maps_are_those_of_pair(pooled, variant):
    labels, pixels, members = parts_of(REFERENCE["masks"].reshape(40, -1))
    own = _Regions(pooled, labels.reshape(1, 56, 56), pixels[None], members[None])
    found = own.painted(own.gains(REFERENCE["base"][None], variant == "fast"))
    np.testing.assert_allclose(found[0], REFERENCE[variant], atol=2e-5)


def test_cells_in_order_by_hand(pooled, images):
    """Regions that do not overlap have their means, and the total is that of the base."""
    base = {"base": "saliency", "base_options": (("reduce", "mean"),)}
    found = xrai(pooled, images, 1, segments=3, **base).maps
    own = METHODS["saliency"].fn(pooled, images, 1, reduce="mean").maps
    means = own.reshape(7, 3, 3, 3, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(found, np.kron(means, np.ones((3, 3))), rtol=1e-5)


def test_the_base_is_that_of_the_authors(pooled, images):
    """The largest channel of the mean over a black and a white baseline."""
    pooled.info.preprocess = xaimaps.PRESETS["unit"]
    both = np.stack([np.zeros((9, 9, 3)), np.ones((9, 9, 3))]).astype(np.float32)
    pairs = (("baseline", both), ("reduce", None))
    found = xrai(pooled, images, 1, segments=9)
    expected = xrai(pooled, images, 1, segments=9, base_options=pairs)
    np.testing.assert_allclose(found.maps, expected.maps, atol=1e-6)


@pytest.mark.parametrize("base", ["grad_cam", "occlusion", "recipro_cam"])
def test_any_map_has_regions(pooled, images, base):
    found = xaimaps.attribute(pooled, images, "xrai", target=several(1, 2), base=base, segments=3)
    assert found.maps.shape == (7, 2, 9, 9)
    sums = [METHODS[base].fn(pooled, images, k).maps for k in (1, 2)]
    if base == "occlusion":
        expected = np.stack(sums, axis=1).sum(axis=(2, 3))
        np.testing.assert_allclose(found.maps.sum(axis=(2, 3)), expected, rtol=1e-4, atol=1e-4)


def test_a_mirrored_image_has_mirrored_regions(pooled, images):
    labels = np.zeros((9, 9), np.int32)
    labels[:, :2] = 1
    options = {"segments": labels, "base": "saliency", "target": 1}
    found = xaimaps.attribute(pooled, images, "xrai", augment="flip", **options).maps
    plain = xaimaps.attribute(pooled, images, "xrai", **options).maps
    turned = {**options, "segments": labels[:, ::-1].copy()}
    mirrored = xaimaps.attribute(pooled, images[:, :, ::-1].copy(), "xrai", **turned).maps
    np.testing.assert_allclose(found, (plain + mirrored[:, :, ::-1]) / 2, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": "eigen_cam"}, "`base` must be a method of a target, got 'eigen_cam'"),
        ({"base": "no"}, "`method` must be one of"),
        ({"base_options": (("steps", 3),)}, "no option 'steps'"),
        ({"variant": "slow"}, "`variant` must be one of full, fast, got 'slow'"),
        ({"segments": "circles"}, "`segments` must be one of"),
    ],
)
def test_wrong_options(pooled, images, options, message):
    with pytest.raises(MethodError, match=message):
        xaimaps.attribute(pooled, images[:1], "xrai", **{"segments": 3, **options})


def test_without_scikit_image_all_methods_are_the_others(pooled, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "xrai" not in able_methods(pooled, METHODS)


def test_volumes_have_no_superpixels():
    model = ReferenceBackend(pooled_network(rank=3, size=5))
    volume = np.ones((1, 5, 5, 5, 3), np.float32)
    assert "xrai" not in able_methods(model, METHODS)
    with pytest.raises(MethodError, match="which needs pictures"):
        xaimaps.attribute(model, volume, "xrai")
    found = xaimaps.attribute(model, volume, "xrai", segments=2, base="saliency")
    assert found.maps.shape == (1, 5, 5, 5)
