"""Checks of the values of loading options, before any model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from xaimaps.errors import ModelLoadError


class Rule(NamedTuple):
    """The check of an option's value, and a description of valid values for messages."""

    allows: Callable[[Any], bool]
    what: str


def is_flag(value: Any) -> bool:
    """Return whether a value is true or false."""
    return isinstance(value, bool)


def _are_parts(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping) and all(isinstance(k, str) for k in value))


FILE_RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "allow_unsafe": Rule(is_flag, "true or false"),
        "custom_objects": Rule(
            _are_parts, "your own layers and functions by their names, which Python alone can give"
        ),
    }
)
"""The rules of the options of files by name."""


def require_valid(rules: Mapping[str, Rule], options: Mapping[str, Any]) -> None:
    """Refuse invalid values of options.

    Raises:
        ModelLoadError: a value is invalid.
    """
    for name, rule in rules.items():
        if name in options and not rule.allows(options[name]):
            raise ModelLoadError(f"`{name}` must be {rule.what}, got {options[name]!r:.200}")
