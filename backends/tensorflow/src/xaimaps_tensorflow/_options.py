"""The options of `load`, and checks of their values before any model is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from types import MappingProxyType
from typing import Any

from xaimaps_keras.options import FILE_RULES, Rule, is_flag, require_valid

from xaimaps.graph import SIDES


def _is_number(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_shape(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, Sequence) or len(value) - 1 not in SIDES or value[-1] is None:
        return False
    return all(size is None or (_is_number(size) and size > 0) for size in value)


def _is_place(value: Any) -> bool:
    return value is None or isinstance(value, str | os.PathLike)


def _is_output(value: Any) -> bool:
    return value is None or isinstance(value, str) or _is_number(value)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **FILE_RULES,
        "xla": Rule(is_flag, "true or false"),
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
    require_valid(RULES, options)
