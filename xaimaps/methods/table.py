"""What the table of methods says of each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from xaimaps.backend import Backend, Capability
from xaimaps.errors import MethodError
from xaimaps.methods.maps import Maps


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        fn: the function.
        family: "gradient" or "perturbation" (maps of the input's size) or "cam" (maps of a
            layer's size).
        needs: what a backend must be able to do.
        paper: where the method is from.
        cost: forward (F) and backward (B) passes for each image; b is the part behind the layer.
        draws: makes the random arrays, as keywords of `fn`, from `(input_shape, **options)`; they
            are arguments of the compiled program, and the same on every backend.
        is_relative: whether only the differences between places mean something, not zero.
        defaults: the value of options that depend on the model where they are None.
    """

    fn: Callable[..., Maps]
    family: Literal["gradient", "cam", "perturbation"]
    needs: frozenset[Capability]
    paper: str
    cost: str
    draws: Callable[..., dict[str, Any]] | None = None
    is_relative: bool = False
    defaults: Callable[[Backend], dict[str, object]] | None = None

    @property
    def name(self) -> str:
        """The function's own name."""
        return getattr(self.fn, "__name__", None) or type(self.fn).__name__

    @property
    def summary(self) -> str:
        """The first line of the function's documentation."""
        return (inspect.getdoc(self.fn) or "").partition("\n")[0]

    @property
    def options(self) -> dict[str, object]:
        """The keyword options with their defaults."""
        parameters = inspect.signature(self.fn).parameters.values()
        return {
            p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "layer"
        }

    @property
    def takes_layer(self) -> bool:
        """Whether the map is that of a layer which the user can choose."""
        return "layer" in inspect.signature(self.fn).parameters

    def check_options(self, options: Mapping[str, object]) -> None:
        """Raise a MethodError for an option that this method does not have."""
        for option in options:
            if option not in self.options:
                known = ", ".join(map(repr, self.options)) or "none"
                raise MethodError(f"{self.name!r} has no option {option!r}; its options: {known}")

    def completed(self, options: Mapping[str, object], backend: Backend) -> dict[str, object]:
        """The options, with what None stands for on this model, so that results record it."""
        found = self.defaults(backend) if self.defaults else {}
        return {**options, **{k: v for k, v in found.items() if options.get(k) is None}}
