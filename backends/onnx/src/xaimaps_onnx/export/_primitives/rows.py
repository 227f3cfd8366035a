"""The table of primitives.

A row is a function `row(write, equation, *inputs)`: `write` records nodes, `equation` has the
parameters, shapes and types that JAX recorded, and the inputs are traced values or arrays. It
returns a traced value or an array, or a tuple of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

Function = Callable[..., Any]
Kind = Literal["elementwise", "call", "other"]

_ROWS: dict[str, tuple[Function, Kind]] = {}


class NoRowError(Exception):
    """No row writes a primitive, or the row does not support its parameters."""


def primitive(*names: str, kind: Kind = "other") -> Callable[[Function], Function]:
    """Register the decorated function as the row of primitives.

    Args:
        names: their names in JAX.
        kind: "elementwise" if the row broadcasts its inputs, as ONNX does; "call" if it writes the
            equations of another function.
    """

    def register(row: Function) -> Function:
        _ROWS.update(dict.fromkeys(names, (row, kind)))
        return row

    return register


def find_row(name: str) -> tuple[Function, Kind]:
    """Return the row of a primitive, and its kind.

    Raises:
        NoRowError: there is none.
    """
    if name not in _ROWS:
        raise NoRowError(f"nothing writes the primitive {name!r} of JAX")
    return _ROWS[name]


def primitives() -> tuple[str, ...]:
    """Return the names of all primitives that have a row."""
    return tuple(sorted(_ROWS))
