"""What the table of methods says of each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from xaimaps.backend import Backend, Capability
from xaimaps.errors import MethodError
from xaimaps.methods._maps import Maps

Family = Literal["gradient", "cam", "perturbation", "custom"]

FAMILIES: tuple[Family, ...] = get_args(Family)
"""In the order of the table."""


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        fn: the function of `(backend, images, target, ...)`.
        family: "gradient" or "perturbation" (maps of the input's size), "cam" (maps of a layer's
            size) or "custom" (a function that is not registered).
        needs: what a backend must be able to do.
        paper: where the method is from.
        cost: forward (F) and backward (B) passes for each image; b is the part behind the layer.
        draws: makes the random arrays, as keywords of `fn`, from `(input_shape, **options)`; they
            are arguments of the compiled program, and the same on every backend.
        defaults: the value of options that depend on the model where they are None.
        is_relative: whether only the differences between pixels mean something, not zero.
        is_sensitive: whether rounding decides which way the method takes, so that what two
            backends may differ by has to be measured; see `xaimaps.parity`.
        tolerance: what two backends may differ by, where it is not what the family promises.
    """

    fn: Callable[..., Maps]
    family: Family
    needs: frozenset[Capability]
    paper: str
    cost: str
    draws: Callable[..., dict[str, Any]] | None = None
    defaults: Callable[[Backend], dict[str, object]] | None = None
    is_relative: bool = False
    is_sensitive: bool = False
    tolerance: float | None = None

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
        """What can be said by keyword, with the defaults."""
        return {
            p.name: p.default
            for p in self._parameters
            if p.name != "layer" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        }

    @property
    def takes_layer(self) -> bool:
        """Whether the map is that of a layer which the user can choose."""
        return any(p.name == "layer" for p in self._parameters)

    @property
    def _parameters(self) -> list[inspect.Parameter]:
        """Those behind the backend, the images and the target."""
        return list(inspect.signature(self.fn).parameters.values())[3:]

    def check_options(self, options: Mapping[str, object]) -> None:
        """Raise a MethodError for an option that this method does not have."""
        for option in options:
            if option not in self.options:
                known = ", ".join(map(repr, self.options)) or "none"
                raise MethodError(f"{self.name!r} has no option {option!r}; its options: {known}")

    def completed(self, options: Mapping[str, object], backend: Backend) -> dict[str, object]:
        """The options, with None replaced by what this model implies, so that results record it."""
        found = self.defaults(backend) if self.defaults else {}
        return {**options, **{k: v for k, v in found.items() if options.get(k) is None}}
