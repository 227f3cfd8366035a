"""`Row`: a function with options that is called by its name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from xaimaps.errors import MethodError


def spelled(name: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` that is meant, such as grad_cam_plusplus by "Grad-CAM++"."""
    return next((one for one in names if _letters(one) == _letters(name)), None)


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower().replace("+", "plus"))


class Row:
    """A function in a table; its name, options and first line are those of the function."""

    fn: Callable[..., Any]

    given: ClassVar[int]
    """The number of its first parameters, which are no options."""

    def __repr__(self) -> str:
        return f"<{self.name}: {self.summary.removesuffix('.')}>"

    @property
    def name(self) -> str:
        """The function's own name."""
        return str(getattr(self.fn, "__name__", type(self.fn).__name__))

    @property
    def summary(self) -> str:
        """The first line of the function's documentation."""
        return (inspect.getdoc(self.fn) or "").partition("\n")[0]

    @property
    def options(self) -> dict[str, object]:
        """The keyword options with their defaults."""
        parameters = list(inspect.signature(self.fn).parameters.values())[self.given :]
        return {
            one.name: one.default
            for one in parameters
            if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        }

    def check_options(self, options: Mapping[str, object]) -> None:
        """Raise a MethodError for an option that it lacks, or one that is no yes or no."""
        known = self.options
        for option, value in options.items():
            if option not in known:
                listed = ", ".join(map(repr, known)) or "none"
                raise MethodError(f"{self.name!r} has no option {option!r}; its options: {listed}")
            if isinstance(known[option], bool) and not isinstance(value, bool | np.bool_):
                raise MethodError(f"`{option}` must be True or False, got {value!r}")
