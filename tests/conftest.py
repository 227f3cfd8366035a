"""Fixtures of the core's tests: reference backends whose values are known."""

import shutil

import numpy as np
import pytest

from xaimaps._images.preprocess import PRESETS
from xaimaps.errors import OutOfMemoryError
from xaimaps.testing import ReferenceBackend, one_conv_network, pooled_network

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
LABELS = ("tench", "goldfish", "great white shark", "tiger shark", "hammerhead")


@pytest.fixture(scope="session")
def installed_browser():
    """Return the path of the machine's own browser."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    return program or pytest.skip(f"no browser is installed, of {', '.join(BROWSERS)}")


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


class Small(ReferenceBackend):
    """Has memory for at most `most` images."""

    def __init__(self, most):
        super().__init__(pooled_network())
        self.info.preprocess = PRESETS["unit"]
        self.most = most

    def compile(self, fn, *arrays):
        def run(*arrays):
            if len(arrays[0]) > self.most:
                raise OutOfMemoryError("the GPU has too little memory")
            return fn(self, *arrays)

        return run


@pytest.fixture
def with_memory_for():
    """Return a function that makes a backend with memory for so many images."""
    return Small


@pytest.fixture
def images():
    """Return seven images for `pooled`."""
    return np.random.default_rng(1).normal(size=(7, 9, 9, 3)).astype(np.float32)
