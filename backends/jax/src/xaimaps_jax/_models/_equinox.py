"""Equinox modules, which are pytrees of their own parameters and take one image at a time."""

from __future__ import annotations

from typing import Any

import equinox
import jax

from xaimaps.errors import ModelLoadError
from xaimaps_jax._checkpoint import Checkpoint, reading
from xaimaps_jax._models._given import Given
from xaimaps_jax._models._model import Array, Model, Params, arguments, said
from xaimaps_jax._models._named import named_class

SUFFIX = ".eqx"
"""The suffix of files by `equinox.tree_serialise_leaves`."""


def adapt(model: Any, given: Given) -> Model:
    """Return an Equinox module as a function of its arrays and one image.

    Args:
        model: an `equinox.Module`. It is not changed: a copy in inference mode is explained.
        given: the `equinox.nn.State` of a model that has one, keyword arguments of its `__call__`,
            and weights: a file of `equinox.tree_serialise_leaves`, or the arrays by path.
    """
    stored, state = _stored(model, given)
    arrays, static = equinox.partition(equinox.nn.inference_mode(stored), equinox.is_array)
    known = ("state",) if state is not None else ()
    chosen = arguments(model.__call__, given.call, known)

    def fn(params: Params, image: Array) -> Any:
        arrays, state = params
        module = _named(equinox.combine(arrays, static), ())
        if state is None:
            return module(image, **chosen)
        result, _ = module(image, state=state, **chosen)
        return result

    layouts = ("CHW", "HWC", "NCHW", "NHWC")
    return Model(type(model).__name__, fn, (arrays, state), layouts, said(chosen, given.call))


def _stored(model: Any, given: Given) -> tuple[Any, Any]:
    """Return a model and its state, with the values of the checkpoint that is given."""
    if given.weights is None:
        return model, given.params
    if given.weights.suffix == SUFFIX:
        whole = (model, given.params) if given.params is not None else model
        with reading(given.weights):
            read = equinox.tree_deserialise_leaves(given.weights, whole)
        return (read, None) if given.params is None else read
    if given.params is not None:
        raise ModelLoadError(
            f"the weights of a model with state must be a {SUFFIX} file of both, got "
            f"{str(given.weights)!r}"
        )
    arrays, static = equinox.partition(model, equinox.is_array)
    return equinox.combine(Checkpoint.read(given.weights).filled(arrays), static), None


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
