"""Pictures that travel as levels, with the embedded network compiled as for an accelerator."""

import numpy as np
import pytest
from xaimaps_jax import JaxBackend

import xaimaps
from xaimaps.backend import Device

PICTURES = [*map(str, xaimaps.zoo.PICTURES.values())]


@pytest.fixture
def copied(monkeypatch):
    """Return the types of the batches that are copied to a device of its own memory."""
    found = []
    arguments = JaxBackend.arguments
    monkeypatch.setattr(JaxBackend, "device", Device("a GPU", memory=2 * 10**9))
    monkeypatch.setattr(
        JaxBackend,
        "arguments",
        lambda self, images, *arrays: (
            found.append(images.dtype) or arguments(self, images, *arrays)
        ),
    )
    return found


def explained():
    model = xaimaps.load("default", backend="jax")
    return xaimaps.explain(model, PICTURES, ["grad_cam", "layer_cam"], batch_size=2)


def test_levels_become_the_same_maps(request):
    expected = explained()
    copied = request.getfixturevalue("copied")
    found = explained()
    assert {*copied} == {np.dtype(np.uint8)}
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.maps, other.maps, atol=1e-6 * other.maps.max())
        np.testing.assert_array_equal(one.classes, other.classes)
