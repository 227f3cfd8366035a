"""The errors, one class for each kind of mistake.

Every message is one sentence with the expected value, the value found, and the remedy. Each class
also derives from the built-in exception that a caller would expect.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class XaimapsError(Exception):
    """Base of every error that xaimaps raises on purpose."""

    def _render_traceback_(self) -> list[str]:
        """Return what IPython prints: the message, for a mistake that is the user's own."""
        return [f"{type(self).__name__}: {self}"]


class InputImageError(XaimapsError, OSError):
    """A picture cannot be read."""


class ArrayInputError(XaimapsError, ValueError):
    """An array has another rank, shape, type or range than the model takes."""


class ModelLoadError(XaimapsError, ValueError):
    """A model file is missing, damaged or unsafe."""


class UnsupportedModelError(XaimapsError, NotImplementedError):
    """A model is valid, but has a part that this backend cannot run."""


class LayerError(XaimapsError, LookupError):
    """A layer does not exist, or does not suit the method."""


class TargetError(XaimapsError, ValueError):
    """A target is not a class, or does not match the batch or the outputs."""


class ImageTargetError(TargetError):
    """A target does not suit one of the images, such as a box of a class that it does not have."""


class MethodError(XaimapsError, ValueError):
    """A method does not exist, or an option is unknown or out of range."""


class BackendError(XaimapsError, RuntimeError):
    """A backend is not installed, broken, or lacks a capability."""


class OutOfMemoryError(BackendError, MemoryError):
    """A device has too little memory for a program; a smaller batch may need less."""


class ManifestError(XaimapsError, ValueError):
    """A manifest cannot be read, or cannot be reproduced."""


class OutputError(XaimapsError, OSError):
    """A result cannot be written."""


def summary(error: BaseException) -> str:
    """Return the type of an error and the first line of its text, for the end of a message."""
    first = first_line(error)
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, without the end of its sentence."""
    return str(error).strip().partition("\n")[0].rstrip(". :")[:300]


def nearest(name: str, names: Iterable[str], count: int = 3) -> str:
    """Return the end of a message with the names most similar to `name`; empty if there are none.

    Names that contain it come first, as a word before as a part of one.

    Args:
        name: the user's text.
        names: the known names.
        count: the largest number of names.
    """
    by_fold, wanted = {known.casefold(): known for known in names}, name.casefold()
    inside = [fold for fold in by_fold if wanted in fold and len(wanted) > 2]
    inside.sort(key=lambda fold: (wanted not in re.split(r"\W+", fold), len(fold)))
    alike = difflib.get_close_matches(wanted, by_fold, n=count, cutoff=0.5)
    close = list(dict.fromkeys([*inside, *alike]))[:count]
    return "; nearest: " + ", ".join(repr(by_fold[fold]) for fold in close) if close else ""
