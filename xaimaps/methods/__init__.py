"""The attribution methods, as pure functions over a backend, and the table of all of them.

Each takes `(backend, images, target, ...)` with the backend's native arrays and may be called
inside the framework's own compiled functions. To add one: write it in its family's file, enter
it in that file's `ROWS`, and give it a row of expected values in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from xaimaps.errors import MethodError, nearest
from xaimaps.methods.cam import ROWS as CAM
from xaimaps.methods.cam import cam, grad_cam
from xaimaps.methods.gradient import ROWS as GRADIENT
from xaimaps.methods.gradient import input_x_gradient, saliency
from xaimaps.methods.maps import Maps
from xaimaps.methods.table import Method

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


def _table(*families: tuple[Method, ...]) -> Mapping[str, Method]:
    return MappingProxyType({method.name: method for rows in families for method in rows})


METHODS = _table(GRADIENT, CAM)


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
