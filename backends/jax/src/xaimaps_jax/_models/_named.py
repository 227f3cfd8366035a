"""Classes of modules whose instances tap what they return."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax

from xaimaps_jax._tap import MODULE, tap_all


@functools.cache
def named_class(cls: Any, path: Sequence[Any]) -> Any:
    """Return a subclass of a module's class that knows the module's path in the model.

    The path is a part of the type, so it passes through the functions of a library that take a
    module apart and build it again, such as `nnx.jit` and `equinox.filter_vmap`.
    """
    name = "/".join(map(str, path))

    @functools.wraps(cls.__call__)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with jax.named_scope(MODULE + name):
            return tap_all(name, cls.__call__(self, *args, **kwargs))

    return type(cls)(cls.__name__, (cls,), {"__call__": call, "__module__": cls.__module__})
