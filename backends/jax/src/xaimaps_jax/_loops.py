"""The error for loops that stop gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from xaimaps.errors import UnsupportedModelError


@contextmanager
def differentiating() -> Iterator[None]:
    """Convert JAX's error about a loop that cannot be differentiated.

    Raises:
        UnsupportedModelError: the end of a loop depends on the data.
    """
    try:
        yield
    except ValueError as error:
        if "Reverse-mode differentiation" not in str(error):
            raise
        raise UnsupportedModelError(
            "the model has a Loop that ends when its data say so, which no gradient passes; use a "
            "method without gradients, or explain an output before it"
        ) from error
