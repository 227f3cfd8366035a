"""`Method`: a row of the table of methods."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from xaimaps.backend import Backend, Capability
from xaimaps.errors import MethodError
from xaimaps.methods._maps import Maps
from xaimaps.methods._options import check_type

Family = Literal["gradient", "cam", "perturbation", "custom"]

FAMILIES: tuple[Family, ...] = get_args(Family)
"""In the order of the table."""


@dataclass(frozen=True, repr=False)
class Method:
    """One row of the table.

    Attributes:
        fn: the function of `(backend, images, target, ...)`.
        family: "gradient" or "perturbation" (maps of the input's size), "cam" (maps of a layer's
            size) or "custom" (a function that is not registered).
        needs: the capabilities that a backend must have.
        paper: the reference.
        cost: forward (F) and backward (B) passes for each image; b is a backward pass from the
            outputs to the layer.
        draws: makes the random arrays, as keywords of `fn`, from `(input_shape, **options)`; they
            are arguments of the compiled program, and the same on every backend.
        defaults: returns values for options whose default, None, depends on the model.
        uses_target: whether a map depends on the target; if not, none is needed.
        is_relative: whether a map is only defined up to a constant, so that zero has no meaning.
        is_sensitive: whether rounding decides the path of the method, so that the tolerance has to
            be measured; see `xaimaps.parity`.
        tolerance: the allowed difference between two backends, if not the family's.
    """

    fn: Callable[..., Maps]
    family: Family
    needs: frozenset[Capability]
    paper: str
    cost: str
    draws: Callable[..., dict[str, Any]] | None = None
    defaults: Callable[[Backend], dict[str, object]] | None = None
    uses_target: bool = True
    is_relative: bool = False
    is_sensitive: bool = False
    tolerance: float | None = None

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
        return {
            p.name: p.default
            for p in self._parameters
            if p.name != "layer" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        }

    @property
    def takes_layer(self) -> bool:
        """Whether the user can choose the layer."""
        return any(p.name == "layer" for p in self._parameters)

    @property
    def _parameters(self) -> list[inspect.Parameter]:
        """The parameters after the backend, the images and the target."""
        return list(inspect.signature(self.fn).parameters.values())[3:]

    def check_options(self, options: Mapping[str, object]) -> None:
        """Raise a MethodError for an option that the method lacks, or one of a wrong type."""
        known = self.options
        annotations = {p.name: p.annotation for p in self._parameters}
        for option, value in options.items():
            if option not in known:
                listed = ", ".join(map(repr, known)) or "none"
                raise MethodError(f"{self.name!r} has no option {option!r}; its options: {listed}")
            check_type(option, annotations[option], value)

    def completed(self, options: Mapping[str, object], backend: Backend) -> dict[str, object]:
        """Replace None by the default for this model, so that results record it."""
        found = self.defaults(backend) if self.defaults else {}
        return {**options, **{k: v for k, v in found.items() if options.get(k) is None}}
