"""A method whose maps another method works on."""

from __future__ import annotations

from typing import Any, NamedTuple

from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._maps import Maps
from xaimaps.methods._method import Method
from xaimaps.methods._options import Pairs
from xaimaps.methods._resize import resized


class Base(NamedTuple):
    """A method with its options; `base_of` makes it."""

    row: Method
    options: dict[str, Any]

    def explain(self, backend: Backend, images: Array, target: Any) -> Maps:
        """Return the method's maps at the size of the images; of channels, the largest."""
        found = self.row.fn(backend, images, target, **self.options)
        has_channels = self.options.get("reduce", "") is None
        maps = backend.xp.max(found.maps, axis=-1) if has_channels else found.maps
        size = tuple(images.shape[1:-1])
        is_large = tuple(maps.shape[-len(size) :]) == size
        return Maps(maps if is_large else resized(backend, maps, size), found.outputs)


def base_of(backend: Backend, base: str, options: Pairs) -> Base:
    """Return the method that a user names as the base of another.

    Raises:
        BackendError: the backend cannot run it.
        MethodError: there is no such method or option, or it uses no target.
    """
    from xaimaps.methods import get_method

    row, given = get_method(base), dict(options)
    if not row.uses_target:
        raise MethodError(f"`base` must be a method of a target, got {base!r}, which uses none")
    row.check_options(given)
    backend.require(row.needs, f"the base {row.name!r}")
    return Base(row, given)
