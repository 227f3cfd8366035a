"""Checks of options that several methods share."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np

from xaimaps.errors import MethodError

Pairs = tuple[tuple[str, Any], ...]
"""The options of a method that another method calls."""

TYPES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "bool": ("True or False", lambda value: isinstance(value, bool | np.bool_)),
    "int": ("an integer", lambda value: _is_a(Integral, value)),
    "float": ("a finite number", lambda value: _is_a(Real, value) and math.isfinite(value)),
    "str": ("text", lambda value: isinstance(value, str)),
    "Rule": ("text", lambda value: isinstance(value, str)),
    "Pairs": ("pairs of a name and a value", lambda value: _are_pairs(value)),
    "Array": ("an array", lambda value: hasattr(value, "shape")),
}
"""What the value of an option must be, by its annotation."""


def _is_a(kind: type, value: object) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _are_pairs(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)
        for pair in value
    )


def check_type(option: str, annotation: Any, value: object) -> None:
    """Raise a MethodError if an option does not have the type of its annotation in a signature."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    name = text.removesuffix(" | None")
    if name not in TYPES or (value is None and name != text):
        return
    words, suits = TYPES[name]
    if not suits(value):
        raise MethodError(f"`{option}` must be {words}, got {value!r}")


def check_choice(option: str, value: object, choices: Iterable[str]) -> None:
    """Raise a MethodError unless an option is one of its choices."""
    known = list(choices)
    if value not in known:
        raise MethodError(f"`{option}` must be one of {', '.join(known)}, got {value!r}")


def check_count(option: str, value: object, least: int = 1, most: int | None = None) -> None:
    """Raise a MethodError unless an option is an integer of at least `least`, at most `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise MethodError(f"`{option}` must be an integer of at least {least}, got {value!r}")
    if most is not None and value > most:
        raise MethodError(f"`{option}` must be at most {most}, got {value!r}")


def check_memory(value: object) -> None:
    """Raise a MethodError unless the option `memory` is a positive number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise MethodError(f"`memory` must be a number of MB above 0, got {value!r}")
