"""What a device cannot hold, in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from xaimaps.errors import BackendError

EXHAUSTED = "RESOURCE_EXHAUSTED"
"""How every message of XLA about too little memory begins."""

AMOUNT = re.compile(r"(?:allocat\w+|used) ([\d.]+(?: bytes|\w+))", re.IGNORECASE)
"""How much it wanted, in the words of a CPU, a GPU or a TPU."""


@contextmanager
def within_memory() -> Iterator[None]:
    """Say in our words that a device has too little memory.

    Programs run while Python goes on, so that what they lack may show only where their result is
    fetched.

    Raises:
        BackendError: XLA could not allocate what a program or an array takes.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if EXHAUSTED not in str(error):
            raise
        raise BackendError(
            f"the {jax.default_backend().upper()} has too little memory{_asked(str(error))}; "
            "explain fewer or smaller images at once (`batch_size`), or give a smaller `memory` "
            "(in MB) to a method with that option"
        ) from error


def _asked(message: str) -> str:
    """How much was asked for, if XLA tells."""
    found = AMOUNT.search(message)
    if not found:
        return ""
    amount = re.sub(r"\d{4,}", lambda digits: f"{int(digits[0]):,}", found[1])
    return f" ({amount} were asked for)"
