"""The error for a device that has too little memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from xaimaps.errors import OutOfMemoryError, first_line


@contextmanager
def within_memory() -> Iterator[None]:
    """Convert TensorFlow's error about too little memory.

    Raises:
        OutOfMemoryError: TensorFlow could not allocate the memory of a program or an array.
    """
    import tensorflow as tf

    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise OutOfMemoryError(
            f"TensorFlow has too little memory ({first_line(error)}); explain fewer or smaller "
            "images at once (`batch_size`), or give a smaller `memory` (in MB) to a method with "
            "that option"
        ) from error
