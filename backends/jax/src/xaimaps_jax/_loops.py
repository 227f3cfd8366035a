"""Loops that no gradient passes, said in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from xaimaps.errors import UnsupportedModelError


@contextmanager
def differentiating() -> Iterator[None]:
    """Say in our words that a loop cannot be differentiated.

    Raises:
        UnsupportedModelError: JAX has met a loop whose end depends on the data.
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
