"""`Row`: a function with options that is called by its name."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from xaimaps.errors import MethodError
from xaimaps.methods._options import check_type


def spelled(name: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` that is meant, such as grad_cam_plusplus by "Grad-CAM++"."""
    return next((one for one in names if _letters(one) == _letters(name)), None)


@functools.lru_cache(512)
def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower().replace("+", "plus"))


class Row:
    """A function in a table; its name, options and first line are those of the function."""

    fn: Callable[..., Any]
    family: str
    needs: frozenset[Any]
    paper: str

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
    def documented(self) -> dict[str, str]:
        """What the function's documentation says of each argument, on one line."""
        section = (inspect.getdoc(self.fn) or "").partition("\nArgs:\n")[2].partition("\n\n")[0]
        entries = re.split(r"^    (\w+): ", section, flags=re.MULTILINE)[1:]
        texts = (" ".join(text.split()) for text in entries[1::2])
        return dict(zip(entries[::2], texts, strict=True))

    @property
    def options(self) -> dict[str, object]:
        """The keyword options with their defaults."""
        return {
            one.name: one.default
            for one in self._parameters
            if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        }

    @functools.cached_property
    def _parameters(self) -> list[inspect.Parameter]:
        """The parameters after those that are no options."""
        return list(inspect.signature(self.fn).parameters.values())[self.given :]

    def check_options(self, options: Mapping[str, object]) -> None:
        """Raise a MethodError for an option that it lacks, or one of a wrong type."""
        known = self.options
        annotations = {one.name: one.annotation for one in self._parameters}
        for option, value in options.items():
            if option not in known:
                listed = ", ".join(map(repr, known)) or "none"
                raise MethodError(f"{self.name!r} has no option {option!r}; its options: {listed}")
            check_type(option, annotations[option], value)
