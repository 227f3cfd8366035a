"""Keras models that compute with JAX; layers have the names that they have on TensorFlow."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from xaimaps.errors import ModelLoadError
from xaimaps_jax._models._given import Given
from xaimaps_jax._models._model import BATCHES, Array, Model, Params
from xaimaps_jax._tap import tap_all


def adapt(model: Any, given: Given) -> Model:
    """Return a Keras model as a function of its variables and images.

    Args:
        model: a `keras.Model`. Its layers are watched while it is traced, and unchanged
            afterwards.
        given: its variables, trainable and not, as `stateless_call` takes them, in place of its
            own; and keyword arguments of its call.
    """
    if given.weights is not None:
        raise ModelLoadError(
            f"a Keras model on JAX takes no `weights`, got {str(given.weights)!r}; load them "
            "by its `load_weights`"
        )
    groups = (model.trainable_variables, model.non_trainable_variables)
    own = tuple([variable.value for variable in group] for group in groups)

    def fn(params: Params, images: Array) -> Any:
        with _watched(model):
            outputs, _ = model.stateless_call(*params, images, **{"training": False, **given.call})
        return outputs

    shape = getattr(model, "input_shape", None)
    declared = shape[1:] if isinstance(shape, tuple) and len(shape) == 4 else None
    return Model(model.name, fn, given.parameters(own), BATCHES, input_shape=declared)


@contextmanager
def _watched(model: Any) -> Iterator[None]:
    """Tap what each layer and operation of a model returns."""
    layers = list(model._flatten_layers())
    inside = [one for layer in layers for one in (layer, *getattr(layer, "operations", ()))]
    path: list[str] = []
    with ExitStack() as stack:
        for one in {id(one): one for one in inside if one is not model}.values():
            stack.enter_context(_replaced(one, _named(one, path)))
        yield


def _named(layer: Any, path: list[str]) -> Callable[..., Any]:
    """Return a layer's call that taps its result by the names of the calls around it."""
    call = layer.call

    @functools.wraps(call)
    def named(*args: Any, **kwargs: Any) -> Any:
        path.append(layer.name)
        try:
            return tap_all("/".join(path), call(*args, **kwargs))
        finally:
            path.pop()

    return named


@contextmanager
def _replaced(layer: Any, call: Callable[..., Any]) -> Iterator[None]:
    """Replace the call of one layer; its class and what it tracks are unchanged."""
    attributes = vars(layer)
    before = {"call": attributes["call"]} if "call" in attributes else {}
    attributes["call"] = call
    try:
        yield
    finally:
        del attributes["call"]
        attributes.update(before)
