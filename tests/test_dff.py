"""DFF against scikit-learn's factors, against a product with a known answer, and its refusals."""

from pathlib import Path

import numpy as np
import pytest

import xaimaps
from xaimaps.errors import MethodError
from xaimaps.methods import dff
from xaimaps.testing import Dense, GlobalAveragePool, Network, ReferenceBackend

REFERENCE = np.load(Path(__file__).parent / "references" / "dff.npz")


class Same:
    """A layer whose activations are the image."""

    def __call__(self, x):
        return x


def of_activations(size):
    *_, channels = size
    head = Dense(np.ones((channels, 2), np.float32), np.zeros(2, np.float32))
    return ReferenceBackend(
        Network({"same": Same(), "pool": GlobalAveragePool(), "fc": head}, size)
    )


def test_factors_explain_as_much_as_those_of_scikit_learn():
    rows = REFERENCE["rows"].reshape(1, 5, 6, 12)
    found = dff(of_activations((5, 6, 12)), rows, n_steps=400)
    assert found.details["explained"][0] > REFERENCE["explained"] - 0.002


def test_concepts_that_do_not_overlap_are_found():
    """The factors of a product of blocks are unique; the larger block is the first concept."""
    heat = np.zeros((4, 6, 2), np.float32)
    heat[:, 1:3, 0], heat[1:3, 4:, 1] = np.linspace(1, 2, 8).reshape(4, 2), 3
    vectors = np.float32([[1, 2, 0, 0], [0, 0, 3, 4]])
    found = dff(of_activations((4, 6, 4)), (heat @ vectors)[None], n_components=2)
    lengths = np.sqrt((vectors**2).sum(axis=1))
    expected = np.moveaxis(heat * lengths, -1, 0)[::-1]
    np.testing.assert_allclose(found.details["concepts"][0], expected, atol=1e-3)
    np.testing.assert_allclose(
        found.details["vectors"][0], (vectors / lengths[:, None])[::-1], atol=1e-4
    )
    np.testing.assert_allclose(found.maps[0], expected[0], atol=1e-3)
    assert found.details["explained"][0] == pytest.approx(1, abs=1e-5)


def test_another_component_is_shown(pooled, images):
    first = xaimaps.attribute(pooled, images, "dff")
    second = xaimaps.attribute(pooled, images, "dff", component=1)
    np.testing.assert_array_equal(second.maps, first.details["concepts"][:, 1])
    shares = [
        one.sum(axis=(1, 2, 3))
        for one in (
            first.details["concepts"][:, k, :, :, None] * first.details["vectors"][:, k, None, None]
            for k in range(4)
        )
    ]
    assert (np.diff(shares, axis=0) <= 1e-5).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_components": 0}, "`n_components` must be an integer of at least 1, got 0"),
        ({"component": 4}, "`component` must be below 4, got 4"),
        ({"component": -1}, "`component` must be an integer of at least 0, got -1"),
        ({"n_steps": 0}, "`n_steps`"),
        ({"seed": -1}, "`seed`"),
    ],
)
def test_wrong_options(pooled, images, options, message):
    with pytest.raises(MethodError, match=message):
        xaimaps.attribute(pooled, images, "dff", **options)
