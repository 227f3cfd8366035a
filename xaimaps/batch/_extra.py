"""Import what only `xaimaps[batch]` installs."""

from __future__ import annotations

import importlib
from typing import Any

from xaimaps._registry import how_to_install
from xaimaps.errors import BackendError


def extra_module(name: str) -> Any:
    """Import a module that a batch run needs.

    Raises:
        BackendError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise BackendError(
            f"a batch run needs {error.name}, which is not installed; {how_to_install('batch')}"
        ) from None
