"""What the tests of the backend share: small networks as Keras models, with weights that matter."""

import os

import numpy as np
import pytest

import xaimaps

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

QUIET = (
    # Keras copies its variables in a way that NumPy 2 deprecates, whenever it saves a model.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    # A nested Sequential of Keras 2 hands its base a list, which Keras 3 mentions and takes.
    "ignore:The structure of `inputs` doesn't match:UserWarning",
)


def pytest_itemcollected(item):
    """Keep quiet, in these tests only, what Keras says about itself."""
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
    """Give every weight of a model, moving statistics too, a value that shows if it is wrong."""

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
