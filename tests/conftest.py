"""Fixtures of the core's tests: reference backends whose values are known."""

import numpy as np
import pytest

from xaimaps._images.preprocess import PRESETS
from xaimaps.testing import ReferenceBackend, one_conv_network, pooled_network

LABELS = ("tench", "goldfish", "great white shark", "tiger shark", "hammerhead")


@pytest.fixture
def captum():
    """Return Captum's network with one convolution."""
    return ReferenceBackend(one_conv_network())


@pytest.fixture
def pooled():
    """Return two convolutions, global average pooling and a dense layer, for 9 x 9 pixels."""
    backend = ReferenceBackend(pooled_network())
    backend.info.labels = LABELS
    backend.info.preprocess = PRESETS["unit"]
    return backend


@pytest.fixture
def images():
    """Return seven images for `pooled`."""
    return np.random.default_rng(1).normal(size=(7, 9, 9, 3)).astype(np.float32)
