"""Flax NNX modules, which hold their own parameters."""

from __future__ import annotations

from typing import Any

from flax import nnx

from xaimaps_jax._models._given import Given
from xaimaps_jax._models._model import BATCHES, Array, Model, Params, arguments, said
from xaimaps_jax._models._named import named_class


def adapt(model: Any, given: Given) -> Model:
    """Return an NNX module as a function of its state and images.

    Args:
        model: an `nnx.Module`. It is not changed: a view in inference mode is explained.
        given: the state to use in place of the module's own, and keyword arguments of its
            `__call__`.
    """
    view = nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)
    definition, state = nnx.split(view)
    chosen = arguments(model.__call__, given.call, ())

    def fn(state: Params, images: Array) -> Any:
        module = nnx.merge(definition, state)
        for path, one in list(nnx.iter_modules(module)):
            if path and callable(one):
                cls: Any = type(one)
                object.__setattr__(one, "__class__", named_class(cls, path))
        return module(images, **chosen)

    params = given.parameters(state)
    return Model(type(model).__name__, fn, params, BATCHES, said(chosen, given.call))
