"""The errors of `onnxjax`, which knows nothing of xaimaps, as errors of xaimaps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from onnxjax.errors import OnnxJaxError

from xaimaps import errors


@contextmanager
def onnxjax_errors() -> Iterator[None]:
    """Raise an error of `onnxjax` as the error of xaimaps of the same name.

    Raises:
        XaimapsError: something inside has raised its twin.
    """
    try:
        yield
    except OnnxJaxError as error:
        raise getattr(errors, type(error).__name__)(str(error)) from error
