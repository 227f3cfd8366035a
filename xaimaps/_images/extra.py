"""Import what only `xaimaps[pictures]` installs."""

from __future__ import annotations

import importlib
from typing import Any

from xaimaps._registry import how_to_install
from xaimaps.errors import InputImageError


def extra_module(source: str, name: str) -> Any:
    """Import a module that a picture needs.

    Raises:
        InputImageError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputImageError(
            f"{source!r} needs {error.name}, which is not installed; {how_to_install('pictures')}"
        ) from None
