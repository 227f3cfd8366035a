"""Object references: `package.module:name`, as entry points write them."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xaimaps import _registry
from xaimaps.errors import ModelLoadError, summary

_FORM = re.compile(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*(\.\w+)*")


def is_reference(model: object) -> bool:
    """Return whether a model is named by the function that makes it."""
    return (
        isinstance(model, str)
        and _FORM.fullmatch(model) is not None
        and not _registry.is_named(model)
        and not os.path.lexists(model)
    )


def imported(reference: str, what: str) -> Any:
    """Import an object by its reference, also from the current folder.

    Args:
        reference: the object, as `package.module:name`.
        what: what it is to be, for messages.

    Raises:
        ModelLoadError: there is no such object, or the import fails.
    """
    module, _, names = reference.partition(":")
    sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module)
        for name in names.split("."):
            found = getattr(found, name)
    except Exception as error:  # the user's own module may raise anything
        raise ModelLoadError(f"{what}, got {reference!r} ({summary(error)})") from error
    finally:
        sys.path.remove("")
    return found


@dataclass(frozen=True)
class Made:
    """A model that a user's function has returned.

    Attributes:
        model: the model.
        params: its parameters, None if the function returns the model alone.
        file: the file with the function, or an empty text.
    """

    model: Any
    params: Any
    file: str


def make(reference: str, *, allow_unsafe: bool) -> Made:
    """Call a user's function that makes a model, or a pair of a model and its parameters.

    Args:
        reference: the function, as `package.module:name`.
        allow_unsafe: whether to run the code of that module.

    Raises:
        ModelLoadError: it may not run, or fails.
    """
    if not allow_unsafe:
        raise ModelLoadError(
            f"there is no model file {reference!r}, and a function of that name is only imported "
            "and run with allow_unsafe=True, which is for code that you trust"
        )
    wanted = "a model that is no file must be MODULE:FUNCTION"
    function = imported(reference, wanted)
    if not callable(function):
        raise ModelLoadError(f"{wanted}, got {reference!r}, which is no function")
    try:
        made = function()
    except Exception as error:  # the user's own function may raise anything
        raise ModelLoadError(
            f"{reference!r} must return a model when it is called without arguments, but raises "
            f"{summary(error)}"
        ) from error
    # named tuples are models of Haiku
    model, params = made if type(made) is tuple and len(made) == 2 else (made, None)
    return Made(model, params, _file(function))


def _file(function: Callable[..., Any]) -> str:
    try:
        return inspect.getsourcefile(inspect.unwrap(function)) or ""
    except TypeError:  # an object that is called, such as a partial
        return ""
