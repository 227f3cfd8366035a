"""Statistics by which a normalisation divides: a derivative may count them as constants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from onnxjax._jax import jax

Array = Any

_ARE_CONSTANT = ContextVar("onnxjax_statistics_are_constant", default=False)


@contextmanager
def constant_statistics() -> Iterator[None]:
    """Count the deviations and norms that normalisations divide by as constants."""
    token = _ARE_CONSTANT.set(True)
    try:
        yield
    finally:
        _ARE_CONSTANT.reset(token)


def statistic(value: Array) -> Array:
    """Return a deviation or norm, without a derivative inside of `constant_statistics`."""
    return jax.lax.stop_gradient(value) if _ARE_CONSTANT.get() else value
