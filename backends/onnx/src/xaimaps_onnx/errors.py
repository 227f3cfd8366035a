"""Conversion of the errors of `onnxjax`, which does not depend on xaimaps, to those of xaimaps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from onnxjax.errors import OnnxJaxError

from xaimaps import errors


@contextmanager
def onnxjax_errors() -> Iterator[None]:
    """Raise an error of `onnxjax` as the error of xaimaps with the same name.

    Raises:
        XaimapsError: an error of `onnxjax` was raised inside the context.
    """
    try:
        yield
    except OnnxJaxError as error:
        raise getattr(errors, type(error).__name__)(str(error)) from error
