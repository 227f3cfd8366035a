"""Flax linen modules: `module.apply(variables, images)`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from flax import linen

from xaimaps.errors import ModelLoadError
from xaimaps_jax._models._given import Given
from xaimaps_jax._models._model import BATCHES, MODES, Array, Model, Params, arguments, said
from xaimaps_jax._tap import tap_all


def adapt(model: Any, given: Given) -> Model:
    """Return a linen module as a function of its variables and images.

    Args:
        model: a `flax.linen.Module`.
        given: its variables, as `init` returns them, or the collection "params" alone; and keyword
            arguments of its `__call__`.
    """
    variables = _variables(given.parameters())
    module = model.clone(**_modes(model))
    chosen = arguments(type(model).__call__.__get__(model), given.call, ())

    def fn(variables: Params, images: Array) -> Any:
        with linen.intercept_methods(_named):
            return module.apply(variables, images, **chosen)

    name = module.name or type(module).__name__
    return Model(name, fn, variables, BATCHES, said(chosen, given.call), root=name)


def _variables(params: Params) -> dict[str, Any]:
    """Return the collections of variables."""
    if params is None:
        raise ModelLoadError(
            "a Flax module needs its variables, got None; give them as "
            "`xaimaps.load(module, variables)`, or a checkpoint as `weights`"
        )
    collections = params if "params" in params else {"params": params}
    # a checkpoint of a training run also holds such values as the number of steps
    return {name: one for name, one in collections.items() if isinstance(one, Mapping)}


def _modes(module: Any) -> dict[str, Any]:
    """Return the attributes of a module that tell training from inference, for inference."""
    attributes = {field.name for field in dataclasses.fields(module)}
    return {name: value for name, value in MODES.items() if name in attributes}


def _named(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    result = call(*args, **kwargs)
    if context.method_name == "setup":
        return result
    method = () if context.method_name == "__call__" else (context.method_name,)
    path = (*context.module.path, *method)
    return tap_all("/".join(path), result) if context.module.path else result
