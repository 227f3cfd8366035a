"""The options of `load`, and checks of their values before any model is loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from types import MappingProxyType
from typing import Any, NamedTuple

from xaimaps.errors import ModelLoadError


class Rule(NamedTuple):
    """The check of an option's value, and a description of valid values for messages."""

    allows: Callable[[Any], bool]
    what: str


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _are_parts(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping) and all(isinstance(k, str) for k in value))


def _is_shape(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, Sequence) or len(value) != 3 or value[2] is None:
        return False
    return all(size is None or (_is_number(size) and size > 0) for size in value)


def _is_place(value: Any) -> bool:
    return value is None or isinstance(value, str | os.PathLike)


def _is_output(value: Any) -> bool:
    return value is None or isinstance(value, str) or _is_number(value)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "allow_unsafe": Rule(_is_flag, "true or false"),
        "xla": Rule(_is_flag, "true or false"),
        "custom_objects": Rule(
            _are_parts, "your own layers and functions by their names, which Python alone can give"
        ),
        "input_shape": Rule(
            _is_shape, "(height, width, channels), as (224, 224, 3), with None for any size"
        ),
        "weights": Rule(_is_place, '"imagenet", None for random ones, or the path of a file'),
        "output": Rule(_is_output, "the name or the index of one of the model's outputs"),
    }
)
"""The rules of the options by name."""


def require_options(**options: Any) -> None:
    """Refuse invalid values of options.

    Raises:
        ModelLoadError: a value is invalid.
    """
    for name, rule in RULES.items():
        if name in options and not rule.allows(options[name]):
            raise ModelLoadError(f"`{name}` must be {rule.what}, got {options[name]!r:.200}")
