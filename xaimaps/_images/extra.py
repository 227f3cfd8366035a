"""Import what only `xaimaps[pictures]` installs."""

from __future__ import annotations

import importlib
from typing import Any

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
            f"{source!r} needs {error.name}, which is not installed; "
            "pip install 'xaimaps[pictures]'"
        ) from None
