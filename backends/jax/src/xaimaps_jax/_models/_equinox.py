"""Equinox modules, which are pytrees of their own parameters and take one image at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox
import jax

from xaimaps_jax._models._model import Array, Model, Params, arguments, said
from xaimaps_jax._models._named import named_class


def adapt(model: Any, params: Any, call: Mapping[str, Any]) -> Model:
    """Return an Equinox module as a function of its arrays and one image.

    Args:
        model: an `equinox.Module`. It is not changed: a copy in inference mode is explained.
        params: the `equinox.nn.State` of a model that has one.
        call: keyword arguments of its `__call__`.
    """
    arrays, static = equinox.partition(equinox.nn.inference_mode(model), equinox.is_array)
    known = ("state",) if params is not None else ()
    chosen = arguments(model.__call__, call, known)

    def fn(params: Params, image: Array) -> Any:
        arrays, state = params
        module = _named(equinox.combine(arrays, static), ())
        if state is None:
            return module(image, **chosen)
        result, _ = module(image, state=state, **chosen)
        return result

    layouts = ("CHW", "HWC", "NCHW", "NHWC")
    return Model(type(model).__name__, fn, (arrays, params), layouts, said(chosen, call))


def _named(module: Any, path: tuple[str, ...]) -> Any:
    """Return a copy of a module in which each callable module taps what it returns."""

    def is_inner(node: Any) -> bool:
        return isinstance(node, equinox.Module) and node is not module

    def child(keys: Any, node: Any) -> Any:
        inner = (*path, *(_key(key) for key in keys))
        return _named(node, inner) if is_inner(node) else node

    copied = jax.tree_util.tree_map_with_path(child, module, is_leaf=is_inner)
    if path and callable(module):
        cls: Any = type(module)
        named = object.__new__(named_class(cls, path))
        for name, value in vars(copied).items():
            object.__setattr__(named, name, value)
        return named
    return copied


def _key(key: Any) -> str:
    return str(getattr(key, "name", getattr(key, "idx", getattr(key, "key", key))))
