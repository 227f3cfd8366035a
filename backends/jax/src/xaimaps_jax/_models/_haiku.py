"""Haiku transforms: `transformed.apply(params, rng, images)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import haiku

from xaimaps.errors import ModelLoadError
from xaimaps_jax._models._model import BATCHES, Array, Model, Params, arguments, said
from xaimaps_jax._tap import tap_all


def adapt(model: Any, params: Any, call: Mapping[str, Any]) -> Model:
    """Return a pair of functions of `haiku.transform` as a function of parameters and images.

    Args:
        model: the result of `haiku.transform` or `haiku.transform_with_state`.
        params: its parameters; for `transform_with_state` a pair of parameters and state.
        call: keyword arguments of the transformed function.
    """
    has_state = isinstance(model, haiku.TransformedWithState)
    if params is None or (has_state and not (isinstance(params, tuple) and len(params) == 2)):
        what = "`params=(params, state)`" if has_state else "`params=`"
        raise ModelLoadError(
            f"a Haiku transform needs its parameters, got {params!r:.60}; give them as {what}"
        )
    transformed = _transformed(model)
    name = getattr(transformed, "__name__", "function")
    chosen = arguments(transformed, call, ())

    def fn(params: Params, images: Array) -> Any:
        with haiku.intercept_methods(_named):
            if not has_state:
                return model.apply(params, None, images, **chosen)
            result, _ = model.apply(*params, None, images, **chosen)
            return result

    return Model(name, fn, params, BATCHES, said(chosen, call))


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
