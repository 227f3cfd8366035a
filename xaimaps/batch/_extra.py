"""Import what only `xaimaps[batch]` installs."""

from __future__ import annotations

from typing import Any

from xaimaps._registry import import_extra


def extra_module(name: str) -> Any:
    """Import a module that a batch run needs.

    Raises:
        BackendError: it is not installed.
    """
    return import_extra(name, "batch", "a batch run")
