"""What each layer of a Keras model gives while it runs, under the TensorFlow backend's names.

A layer is called by its path (`conv5`, `base/conv5` inside a layer `base`), and by the number of
the call behind it where there are several (`base/conv5:1`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import keras

from xaimaps_tensorflow._trace import Call, Tracer, named, operations_in, replaced


def recording(model: Any) -> AbstractContextManager[dict[int, Call]]:
    """Note the calls of all layers as long as the context lasts; the model is left as it was."""
    return Tracer(operations_in(model), {}, {}).watching()


@contextmanager
def kept_apart(layers: Iterable[Any], zero: Any) -> Iterator[None]:
    """Add a zero that nobody knows to be one to what these layers give.

    What is around such a value cannot be fused with it, so that it stays in the graph.
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
    """The calls that gave one tensor, by the layer's name, in the order of computation."""
    return {name: call for name, call in named(calls) if hasattr(call.value, "shape")}
