"""The table of primitives.

A row is a function `row(write, equation, *inputs)`: `write` records nodes, `equation` has the
parameters, shapes and types that JAX recorded, and the inputs are traced values or arrays. It
returns a traced value or an array, or a tuple of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Row = Callable[..., Any]

_ROWS: dict[str, Row] = {}


class NoRowError(Exception):
    """No row writes a primitive, or the row does not support its parameters."""


def primitive(*names: str) -> Callable[[Row], Row]:
    """Register the decorated function as the row of primitives, by their names in JAX."""

    def register(row: Row) -> Row:
        _ROWS.update(dict.fromkeys(names, row))
        return row

    return register


def find_row(name: str) -> Row:
    """Return the row of a primitive.

    Raises:
        NoRowError: there is none.
    """
    if name not in _ROWS:
        raise NoRowError(f"nothing writes the primitive {name!r} of JAX")
    return _ROWS[name]


def primitives() -> tuple[str, ...]:
    """Return the names of all primitives that have a row."""
    return tuple(sorted(_ROWS))
