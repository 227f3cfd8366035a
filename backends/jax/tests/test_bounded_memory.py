"""The memory of a compiled method: within its option, whatever the number of passes."""

import jax
import numpy as np
import pytest

import xaimaps
from xaimaps.methods import METHODS

IMAGES = np.zeros((1, 224, 224, 3), np.float32)
KERNEL = np.full((3, 3, 3, 16), 0.1, np.float32)


def network(params, images):
    """Score an image by the means of 16 feature maps, which take 0.8 MB."""
    found = jax.lax.conv_general_dilated(
        images, params, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jax.nn.relu(found).mean((1, 2))


@pytest.fixture(scope="module")
def backend():
    return xaimaps.load(network, backend="jax", params=KERNEL, input_shape=IMAGES.shape[1:])


def allocated(backend, method, **options):
    """The bytes that a compiled method takes beside its arguments and results."""
    fn = METHODS[method].fn
    program = jax.jit(lambda images: fn(backend, images, 1, **options).maps)
    return program.lower(IMAGES).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize(
    ("method", "few", "many"),
    [
        ("occlusion", {"stride": 32}, {"stride": 8}),
        ("rise", {"n_masks": 256}, {"n_masks": 4096}),
        ("integrated_gradients", {"n_steps": 32}, {"n_steps": 512}),
    ],
)
def test_memory_does_not_grow_with_the_number_of_passes(backend, method, few, many):
    sizes = [allocated(backend, method, memory=16, **options) for options in (few, many)]
    assert sizes[1] <= 1.05 * sizes[0]
    assert max(sizes) < 16e6 + 2 * IMAGES.nbytes  # beside the image and the sum over its variants
