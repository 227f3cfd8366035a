"""The error for a device that has too little memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from xaimaps.errors import OutOfMemoryError

EXHAUSTED = "RESOURCE_EXHAUSTED"
"""The start of every message of XLA about too little memory."""

AMOUNT = re.compile(r"(?:allocat\w+|used) ([\d.]+(?: bytes|\w+))", re.IGNORECASE)
"""The requested amount in a message from a CPU, a GPU or a TPU."""


@contextmanager
def within_memory() -> Iterator[None]:
    """Convert XLA's error about too little memory.

    Programs run asynchronously, so the error may occur only when a result is fetched.

    Raises:
        OutOfMemoryError: XLA could not allocate the memory of a program or an array.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if EXHAUSTED not in str(error):
            raise
        raise OutOfMemoryError(
            f"the {jax.default_backend().upper()} has too little memory{_asked(str(error))}; "
            "explain fewer or smaller images at once (`batch_size`), or give a smaller `memory` "
            "(in MB) to a method with that option"
        ) from error


def _asked(message: str) -> str:
    """Return the requested amount, if the message has it."""
    found = AMOUNT.search(message)
    if not found:
        return ""
    amount = re.sub(r"\d{4,}", lambda digits: f"{int(digits[0]):,}", found[1])
    return f" ({amount} were asked for)"
