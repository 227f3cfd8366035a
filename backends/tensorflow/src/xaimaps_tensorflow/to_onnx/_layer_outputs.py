"""The values of a Keras model's layers while it runs, under the TensorFlow backend's names.

The name of a layer is its path (`conv5`, `base/conv5` inside a layer `base`). If the layer is
called several times, the number of the call follows (`base/conv5:1`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import keras

from xaimaps_tensorflow._trace import Call, Tracer, named, operations_in, replaced


def recording(model: Any) -> AbstractContextManager[dict[int, Call]]:
    """Record the calls of all layers inside the context; the model is unchanged."""
    return Tracer(operations_in(model), {}, {}).watching()


@contextmanager
def kept_apart(layers: Iterable[Any], zero: Any) -> Iterator[None]:
    """Add an input that is always zero to the values of these layers.

    The exporter cannot know that it is zero, so that it does not fuse the value with others.
    """

    def apart(call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: _plus(call(*args, **kwargs), zero)

    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(replaced(layer, "call", apart(layer.call)))
        yield


def _plus(value: Any, zero: Any) -> Any:
    return value + keras.ops.cast(zero, value.dtype)


def by_name(calls: Mapping[int, Call]) -> dict[str, Call]:
    """Return the calls with one tensor as their value, by the layer's name, in order."""
    return {name: call for name, call in named(calls) if hasattr(call.value, "shape")}
