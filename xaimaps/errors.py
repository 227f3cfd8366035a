"""What can go wrong, one class per kind of mistake.

Every message is one sentence: what was expected, what came, what to do. Each class is also the
built-in one that a caller who knows nothing of xaimaps would catch.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class XaimapsError(Exception):
    """Base of every error that xaimaps raises on purpose."""


class InputImageError(XaimapsError, OSError):
    """A picture cannot be read."""


class ArrayInputError(XaimapsError, ValueError):
    """An array has another rank, shape, type or range than the model takes."""


class ModelLoadError(XaimapsError, ValueError):
    """A model file is missing, damaged or unsafe."""


class UnsupportedModelError(XaimapsError, NotImplementedError):
    """A model is sound, but has a part that this backend cannot run."""


class LayerError(XaimapsError, LookupError):
    """A layer does not exist, or has no use for the method."""


class TargetError(XaimapsError, ValueError):
    """A target names no class, or does not fit the batch or the outputs."""


class MethodError(XaimapsError, ValueError):
    """A method does not exist, or an option is not one of its own."""


class BackendError(XaimapsError, RuntimeError):
    """A backend is not installed, broken, or lacks a capability."""


class ManifestError(XaimapsError, ValueError):
    """A manifest cannot be read, or cannot be reproduced."""


class OutputError(XaimapsError, OSError):
    """A result cannot be written."""


def nearest(name: str, names: Iterable[str], count: int = 3) -> str:
    """Return the names that look most like `name`, ready to end a message; empty if none does.

    Args:
        name: what the user wrote.
        names: what exists.
        count: how many to offer at most.
    """
    by_fold = {known.casefold(): known for known in names}
    close = difflib.get_close_matches(name.casefold(), by_fold, n=count, cutoff=0.5)
    return "; nearest: " + ", ".join(repr(by_fold[fold]) for fold in close) if close else ""
