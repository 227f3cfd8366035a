"""Import what only `xaimaps[pictures]` installs."""

from __future__ import annotations

from typing import Any

from xaimaps._registry import import_extra
from xaimaps.errors import InputImageError


def extra_module(source: str, name: str) -> Any:
    """Import a module that a picture needs.

    Raises:
        InputImageError: it is not installed.
    """
    return import_extra(name, "pictures", repr(source), InputImageError)
