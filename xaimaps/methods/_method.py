"""`Method`: a row of the table of methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from xaimaps.backend import Backend, Capability
from xaimaps.methods._maps import Maps
from xaimaps.methods._row import Row

Family = Literal["gradient", "cam", "attention", "perturbation", "custom"]

FAMILIES: tuple[Family, ...] = get_args(Family)
"""In the order of the table."""


@dataclass(frozen=True, repr=False)
class Method(Row):
    """One row of the table.

    Attributes:
        fn: the function of `(backend, images, target, ...)`.
        family: "gradient" or "perturbation" (maps of the input's size), "cam" (maps of a layer's
            size), "attention" (maps of a transformer's grid of tokens) or "custom" (a function
            that is not registered).
        needs: the capabilities that a backend must have.
        paper: the reference.
        cost: forward (F) and backward (B) passes for each image; b is a backward pass from the
            outputs to the layer.
        draws: makes random and other arrays, keywords of `fn`, from `(shape, images=, **options)`;
            they are arguments of the compiled program, and the same on every backend.
        defaults: returns values for options whose default, None, depends on the model.
        uses_target: whether a map depends on the target; if not, none is needed.
        only_classes: whether the target must be a class, so that other targets are refused.
        suits: tells whether a model may have what the method explains, if not every model has; the
            method itself refuses the others.
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
    only_classes: bool = False
    suits: Callable[[Backend], bool] | None = None
    is_relative: bool = False
    is_sensitive: bool = False
    tolerance: float | None = None

    given = 3

    @property
    def options(self) -> dict[str, object]:
        return {name: default for name, default in super().options.items() if name != "layer"}

    @property
    def takes_layer(self) -> bool:
        """Whether the user can choose the layer."""
        return "layer" in super().options

    def fits(self, backend: Backend) -> bool:
        """Whether the backend has all capabilities, and the model may suit the method."""
        return self.needs <= backend.capabilities and (self.suits is None or self.suits(backend))

    def completed(self, options: Mapping[str, object], backend: Backend) -> dict[str, object]:
        """Replace None by the default for this model, so that results record it."""
        found = self.defaults(backend) if self.defaults else {}
        return {**options, **{k: v for k, v in found.items() if options.get(k) is None}}
