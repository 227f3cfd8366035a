"""The attribution methods, as pure functions over a backend, and the table of all of them.

Each takes `(backend, images, target, ...)` with the backend's native arrays and may be called
inside the framework's own compiled functions. To add one: write it in its family's file, enter
it below, and give it a row of expected values in `tests/test_methods.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from xaimaps.backend import Capability
from xaimaps.errors import MethodError, nearest
from xaimaps.methods.cam import cam, grad_cam
from xaimaps.methods.gradient import input_x_gradient, saliency
from xaimaps.methods.maps import Maps

__all__ = [
    "METHODS",
    "Maps",
    "Method",
    "cam",
    "get_method",
    "grad_cam",
    "input_x_gradient",
    "saliency",
]


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        fn: the function.
        family: "gradient" (maps of the input's size) or "cam" (maps of a layer's size).
        needs: what a backend must be able to do.
        paper: where the method is from.
        cost: forward (F) and backward (B) passes for each image; b is the part behind the layer.
        draws: makes the random arrays, as keywords of `fn`, from `(input_shape, **options)`; they
            are arguments of the compiled program, and the same on every backend.
    """

    fn: Callable[..., Maps]
    family: Literal["gradient", "cam"]
    needs: frozenset[Capability]
    paper: str
    cost: str
    draws: Callable[..., dict[str, Any]] | None = None

    @property
    def name(self) -> str:
        """The function's own name."""
        return self.fn.__name__

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


def _table(*methods: Method) -> Mapping[str, Method]:
    return MappingProxyType({method.name: method for method in methods})


METHODS = _table(
    Method(
        saliency,
        family="gradient",
        needs=frozenset({"forward", "grad"}),
        paper="Simonyan et al. 2014, arXiv:1312.6034",
        cost="1 F + 1 B",
    ),
    Method(
        input_x_gradient,
        family="gradient",
        needs=frozenset({"forward", "grad"}),
        paper="Shrikumar et al. 2016, arXiv:1605.01713",
        cost="1 F + 1 B",
    ),
    Method(
        cam,
        family="cam",
        needs=frozenset({"forward", "activations", "classifier"}),
        paper="Zhou et al. 2016, arXiv:1512.04150",
        cost="1 F",
    ),
    Method(
        grad_cam,
        family="cam",
        needs=frozenset({"forward", "activations", "grad"}),
        paper="Selvaraju et al. 2017, arXiv:1610.02391",
        cost="1 F + 1 b",
    ),
)


def get_method(name: str) -> Method:
    """Return the table's row for `name`.

    Raises:
        MethodError: there is no such method.
    """
    if name not in METHODS:
        raise MethodError(
            f"`method` must be one of {', '.join(METHODS)}, got {name!r}{nearest(name, METHODS)}"
        )
    return METHODS[name]
