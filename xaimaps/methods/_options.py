"""Checks of options that several methods have."""

from __future__ import annotations

from xaimaps.errors import MethodError


def check_count(option: str, value: object, least: int = 1) -> None:
    """Raise a MethodError unless an option is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise MethodError(f"`{option}` must be an integer of at least {least}, got {value!r}")
