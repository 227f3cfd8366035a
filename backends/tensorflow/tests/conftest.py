"""Fixtures of the backend's tests: small networks as Keras models with non-trivial weights."""

import os

import numpy as np
import pytest

import xaimaps

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

QUIET = (
    # When Keras saves a model, it copies its variables in a way that NumPy 2 deprecates.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    # A nested Sequential of Keras 2 calls its base on a list; Keras 3 warns and accepts it.
    "ignore:The structure of `inputs` doesn't match:UserWarning",
)


def pytest_itemcollected(item):
    """Suppress Keras's own warnings, in these tests only."""
    for line in QUIET:
        item.add_marker(pytest.mark.filterwarnings(line))


@pytest.fixture(scope="session")
def build():
    """Build a network of `xaimaps.testing` as a sequential model, and load it."""
    copies = pytest.importorskip("xaimaps_tensorflow.testing.copies")

    def load(network, *end, **options):
        return xaimaps.load(copies.as_keras(network, *end), **options)

    return load


@pytest.fixture(scope="session")
def randomised():
    """Set every weight of a model, including moving statistics, to a random value.

    A weight that is loaded wrongly then changes the outputs.
    """

    def change(model, seed=0):
        draw = np.random.default_rng(seed)
        for weight in model.weights:
            scale = np.prod(weight.shape[:-1]) ** -0.5 if len(weight.shape) > 1 else 0.3
            values = draw.normal(size=weight.shape, scale=scale)
            if any(word in weight.path for word in ("variance", "gamma")):
                values = np.abs(values) + 0.5
            weight.assign(values.astype(np.float32))
        return model

    return change
