"""Extremal perturbations against TorchRay, their laws, and what they refuse."""

from pathlib import Path

import numpy as np
import pytest

import xaimaps
from xaimaps._plan import able_methods
from xaimaps.errors import BackendError, MethodError
from xaimaps.methods import METHODS
from xaimaps.methods._smooth_mask import grid_for
from xaimaps.targets import several
from xaimaps.testing import Dense, Network, ReferenceBackend, pooled_network

REFERENCE = np.load(Path(__file__).parent / "references" / "extremal_perturbation.npz")
NAME = "extremal_perturbation"


def strong(gain=30, **options):
    """The pooled network with larger scores, which outweigh the area's part of the energy."""
    network = pooled_network(**options)
    head = network.layers["fc"]
    layers = {**network.layers, "fc": Dense(gain * head.weights, head.bias)}
    return ReferenceBackend(Network(layers, network.input_shape))


@pytest.mark.parametrize("n_steps", [1, 12])
def test_masks_are_those_of_torchray(n_steps):
    options = {"target": 3, "area": 0.2, "n_steps": n_steps}
    found = xaimaps.attribute(strong(size=48), REFERENCE["image"][None], NAME, **options)
    np.testing.assert_allclose(found.maps[0], REFERENCE[str(n_steps)], atol=3e-5)
    scores = REFERENCE["scores"][:n_steps]
    np.testing.assert_allclose(found.details["masked_scores"][0], scores, atol=1e-3)


def test_the_derivative_of_a_mask_is_that_of_differences(pooled):
    draw = np.random.default_rng(0)
    grid = grid_for(pooled, np.zeros((1, 12, 9, 3)), 2, 2.5)
    cells = draw.random((1, *grid.size))
    inner, whole = (
        draw.normal(size=x.shape) for x in (grid.mask(cells).inner, grid.mask(cells)[3])
    )

    def energy(cells):
        mask = grid.mask(cells)
        return np.sum(inner * mask.inner) + np.sum(whole * mask.whole)

    found = grid.mask(cells).pull(inner, whole)
    for place in np.ndindex(cells.shape):
        step = np.zeros_like(cells)
        step[place] = 1e-5
        expected = (energy(cells + step) - energy(cells - step)) / 2e-5
        assert found[place] == pytest.approx(expected, abs=1e-4)


class Rows:
    """(N, H, W, C) to vectors."""

    def __call__(self, x):
        return x.reshape(len(x), -1)

    def pull(self, x, g):
        return g.reshape(x.shape)


@pytest.mark.parametrize("area", [0.1, 0.25])
def test_the_mask_has_its_area_and_keeps_what_the_score_needs(area):
    """A square of noise, of which the score is the correlation with itself; a blur removes it."""
    place = (slice(None), slice(8, 16), slice(10, 18))
    square = np.zeros((1, 24, 24, 1), np.float32)
    square[place] = np.random.default_rng(0).normal(size=(1, 8, 8, 1))
    weights = np.stack([0 * square.ravel(), 0.5 * square.ravel()], axis=1)
    layers = {"rows": Rows(), "fc": Dense(weights, np.zeros(2, np.float32))}
    backend = ReferenceBackend(Network(layers, (24, 24, 1)))
    options = {"target": 1, "area": area, "n_steps": 200, "jitter": False}
    found = xaimaps.attribute(backend, square, NAME, **options).maps
    grid = grid_for(backend, square, 1, 2.25)
    pixels = grid.mask(np.ones((1, *grid.size))).whole.size
    assert found.min() >= 0
    assert found.max() <= 1
    assert (found > 0.5).sum() / pixels == pytest.approx(area, rel=0.15)
    assert found[place].mean() > 0.9


def test_several_targets_and_images_are_those_alone(images):
    backend = strong()
    whole = xaimaps.attribute(backend, images[:2], NAME, target=several(1, 3), n_steps=20)
    for k, target in enumerate((1, 3)):
        for i, image in enumerate(images[:2]):
            one = xaimaps.attribute(backend, image[None], NAME, target=target, n_steps=20)
            np.testing.assert_allclose(whole.maps[i, k], one.maps[0], atol=1e-4)


def test_it_is_chosen_for_images_of_some_size():
    assert NAME not in able_methods(strong(), METHODS)
    assert NAME in able_methods(strong(size=64), METHODS)
    volume = np.ones((1, 5, 5, 5, 3), np.float32)
    with pytest.raises(MethodError, match=r"needs images \(N, H, W, C\), got shape"):
        xaimaps.attribute(strong(rank=3, size=5), volume, NAME)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"area": 0.0}, "`area` must be between 0 and 1, got 0.0"),
        ({"area": 1.5}, "`area` must be between 0 and 1, got 1.5"),
        ({"area": "small"}, "`area` must be a finite number, got 'small'"),
        ({"n_steps": 0}, "`n_steps` must be an integer of at least 1, got 0"),
        ({"jitter": 2}, "`jitter` must be True or False, got 2"),
    ],
)
def test_wrong_options(pooled, images, options, message):
    with pytest.raises(MethodError, match=message):
        xaimaps.attribute(pooled, images[:1], NAME, **options)


def test_it_needs_gradients(images):
    class WithoutGradients(ReferenceBackend):
        capabilities = ReferenceBackend.capabilities - {"grad"}

    with pytest.raises(BackendError, match="'extremal_perturbation' needs a backend that can"):
        xaimaps.attribute(WithoutGradients(pooled_network()), images, NAME)
