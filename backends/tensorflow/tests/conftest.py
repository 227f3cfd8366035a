"""What the tests of the TensorFlow backend share."""

import os

import pytest

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
