"""SESS against pytorch-grad-cam, its laws, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest

import xaimaps
from xaimaps._plan import able_methods
from xaimaps.errors import BackendError, MethodError
from xaimaps.methods import METHODS, sess
from xaimaps.methods._resize import resized
from xaimaps.targets import several
from xaimaps.testing import ReferenceBackend, pooled_network

REFERENCE = np.load(Path(__file__).parent / "references" / "sess.npz")


class WithoutGradients(ReferenceBackend):
    capabilities = ReferenceBackend.capabilities - {"grad"}


@pytest.mark.parametrize("memory", [None, 1e-6])
@pytest.mark.parametrize(
    ("name", "options"), [("whole", {}), ("filtered", {"pre_filter_ratio": 0.6})]
)
def test_maps_are_those_of_pytorch_grad_cam(name, options, memory):
    backend = ReferenceBackend(pooled_network(size=45))
    options = {**options, "n_scales": 5, "memory": memory}
    found = xaimaps.attribute(backend, REFERENCE["image"][None], "sess", target=3, **options)
    np.testing.assert_allclose(found.maps[0], REFERENCE[name], atol=2e-6)


def test_the_only_window_of_one_scale_is_the_image(pooled, images):
    """Its map is that of the base from 0 to 1; a Gaussian of a fifth of a pixel changes nothing."""
    found = sess(pooled, images, 3, n_scales=1).maps
    large = resized(pooled, METHODS["grad_cam"].fn(pooled, images, 3).maps, (9, 9))
    low, high = (f(large, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    np.testing.assert_allclose(found, (large - low) / (high - low), atol=1e-6)


@pytest.mark.parametrize("base", ["saliency", "recipro_cam", "occlusion"])
def test_any_map_has_windows(pooled, images, base):
    target, options = several(1, 2), {"base": base, "n_scales": 2}
    found = xaimaps.attribute(pooled, images[:2], "sess", target=target, **options).maps
    assert found.shape == (2, 2, 9, 9)
    for k in (1, 2):
        alone = xaimaps.attribute(pooled, images[:2], "sess", target=k, **options).maps
        np.testing.assert_allclose(found[:, k - 1], alone, atol=1e-5)


def test_channels_of_the_base_are_its_largest(pooled, images):
    options = {"base": "saliency", "n_scales": 2}
    plain = sess(pooled, images[:1], 1, **options).maps
    found = sess(pooled, images[:1], 1, base_options=(("reduce", None),), **options).maps
    np.testing.assert_allclose(found, plain, atol=1e-6)


def test_scores_that_are_negative_everywhere_weigh_alike(pooled, images):
    """Of no class, the weights are the positive scores; without one, all windows count."""

    def map_of(*, shift):
        return sess(pooled, images[:1], lambda y: y[:, 1] + shift, n_scales=3).maps

    np.testing.assert_allclose(map_of(shift=-1e3), map_of(shift=1e6), rtol=1e-3)
    assert np.ptp(map_of(shift=-1e3)) > 0.1


def test_without_gradients_another_base_runs(images):
    backend = WithoutGradients(pooled_network())
    assert "sess" not in able_methods(backend, METHODS)
    with pytest.raises(BackendError, match="the base 'grad_cam' needs a backend that can"):
        xaimaps.attribute(backend, images, "sess")
    assert xaimaps.attribute(backend, images, "sess", base="score_cam", n_scales=2).maps.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": "eigen_cam"}, "`base` must be a method of a target, got 'eigen_cam'"),
        ({"base": "no"}, "`method` must be one of"),
        ({"base_options": (("steps", 3),)}, "no option 'steps'"),
        ({"n_scales": 0}, "`n_scales` must be an integer of at least 1, got 0"),
        ({"n_scales": 51}, "`n_scales` must be at most 50, got 51"),
        ({"scale_step": 0.0}, "`scale_step` must be above 0 and at most 1, got 0.0"),
        ({"pre_filter_ratio": 1.0}, "`pre_filter_ratio` must be at least 0 and below 1, got 1.0"),
        ({"memory": 0}, "`memory`"),
    ],
)
def test_wrong_options(pooled, images, options, message):
    with pytest.raises(MethodError, match=message):
        xaimaps.attribute(pooled, images[:1], "sess", **options)
