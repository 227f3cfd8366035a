"""Haiku transforms: `transformed.apply(params, rng, images)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import haiku

from xaimaps.errors import ModelLoadError
from xaimaps_jax._checkpoint import Checkpoint
from xaimaps_jax._models._given import Given
from xaimaps_jax._models._model import BATCHES, Array, Model, Params, arguments, said
from xaimaps_jax._tap import tap_all


def adapt(model: Any, given: Given) -> Model:
    """Return a pair of functions of `haiku.transform` as a function of parameters and images.

    Args:
        model: the result of `haiku.transform` or `haiku.transform_with_state`.
        given: its parameters, for `transform_with_state` a pair of parameters and state; and
            keyword arguments of the transformed function.
    """
    has_state = isinstance(model, haiku.TransformedWithState)
    params = given.parameters(tree=_both if has_state else _modules)
    if params is None or (has_state and not (isinstance(params, tuple) and len(params) == 2)):
        what = "`params=(params, state)`" if has_state else "`params=`"
        raise ModelLoadError(
            f"a Haiku transform needs its parameters, got {params!r:.60}; give them as {what}, or "
            "a checkpoint as `weights`"
        )
    transformed = _transformed(model)
    name = getattr(transformed, "__name__", "function")
    chosen = arguments(transformed, given.call, ())

    def fn(params: Params, images: Array) -> Any:
        with haiku.intercept_methods(_named):
            if not has_state:
                return model.apply(params, None, images, **chosen)
            result, _ = model.apply(*params, None, images, **chosen)
            return result

    return Model(name, fn, params, BATCHES, said(chosen, given.call))


def _modules(stored: Checkpoint) -> Params:
    """Return the parameters of a checkpoint by module, whose name is itself a path."""
    params: dict[str, Any] = {}
    for path, array in stored.arrays.items():
        module, _, name = path.rpartition("/")
        params.setdefault(module, {})[name] = array
    return params


def _both(stored: Checkpoint) -> Params:
    """Return the pair of parameters and state of a checkpoint of both."""
    return tuple(_modules(stored.below(name)) for name in ("params", "state"))


def _transformed(model: Any) -> Callable[..., Any]:
    """Return the function that was transformed, whose signature says what it needs."""
    return getattr(model.init, "_original_fn", lambda images: None)


def _named(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    result = call(*args, **kwargs)
    if context.method_name in ("__init__", "params_dict", "state_dict"):
        return result
    method = () if context.method_name == "__call__" else (context.method_name,)
    parts = context.module.module_name.split("/")
    path = (*(part for part in parts if part != "~"), *method)
    return tap_all("/".join(path), result)
