"""Checks of options that several methods share."""

from __future__ import annotations

from xaimaps.errors import MethodError


def check_count(option: str, value: object, least: int = 1) -> None:
    """Raise a MethodError unless an option is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise MethodError(f"`{option}` must be an integer of at least {least}, got {value!r}")


def check_memory(value: object) -> None:
    """Raise a MethodError unless the option `memory` is a positive number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise MethodError(f"`memory` must be a number of MB above 0, got {value!r}")
