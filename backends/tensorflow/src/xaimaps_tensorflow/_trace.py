"""A run of a model in a graph that records, and can replace, the values of its layers.

While the model is traced, a wrapper in the `__dict__` of each layer records its calls; the wrapper
is removed afterwards. This works alike for functional, sequential, nested and subclassed models. It
needs no second model, and the user's model is unchanged.
"""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from xaimaps.errors import UnsupportedModelError

_LOCK = threading.RLock()
"""A lock, because only one thread at a time may wrap the layers of a model."""


@dataclass(eq=False)
class Call:
    """One call of a layer while a model ran.

    Attributes:
        layer: the layer.
        path: its name, after the names of the layers in which it was called.
        number: the number of the call, in the order in which calls start.
        end: the number of the next call that is not inside this one.
        order: the number of the call, in the order in which calls end.
        value: the returned value.
    """

    layer: Any
    path: str
    number: int
    end: int = -1
    order: int = -1
    value: Any = None


Calls = dict[int, Call]


def named(calls: Mapping[int, Call]) -> Iterator[tuple[str, Call]]:
    """Yield each call with its name: the layer's path.

    If a layer is called several times, the number of the call follows its path.
    """
    counts, seen = Counter(call.path for call in calls.values()), Counter[str]()
    for call in calls.values():
        yield f"{call.path}:{seen[call.path]}" if counts[call.path] > 1 else call.path, call
        seen[call.path] += 1


def is_model(layer: object) -> bool:
    """Return whether an object is a model of Keras 2 or Keras 3."""
    return any(kind.__name__ == "Model" and _is_keras(kind) for kind in type(layer).__mro__)


def _is_keras(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in ("keras", "tf_keras")


def operations_in(model: Any) -> list[Any]:
    """Return every layer and operation inside a model.

    The parts of Keras's own composite layers are not included.
    """
    found: dict[int, Any] = {}

    def visit(parent: Any) -> None:
        for child in _children(parent):
            if id(child) not in found:
                found[id(child)] = child
                if is_model(child) or not _is_keras(type(child)):
                    visit(child)

    visit(model)
    return [one for one in found.values() if type(one).__name__ != "InputLayer"]


def _children(parent: Any) -> list[Any]:
    if type(parent).__name__ == "Sequential":
        return list(parent.layers)
    layers = getattr(parent, "_flatten_layers", None)
    inside = layers(include_self=False, recursive=False) if layers else ()
    return [*inside, *getattr(parent, "operations", ())]


class Tracer:
    """The recorder of one run of a model.

    Args:
        operations: the layers and operations to record.
        known: the values that calls return instead of their own, by number.
        earlier: the calls of an earlier run, which are needed if any value is known.
    """

    def __init__(
        self, operations: Sequence[Any], known: Mapping[int, Any], earlier: Mapping[int, Call]
    ) -> None:
        self.calls: Calls = {}
        self._operations = operations
        self._known = known
        self._earlier = earlier
        self._open: list[Call] = []
        self._next = self._ended = 0

    @contextmanager
    def watching(self) -> Iterator[Calls]:
        """Record all calls inside the context; yields the calls."""
        with _LOCK, ExitStack() as stack:
            for operation in self._operations:
                stack.enter_context(replaced(operation, "call", self._watched(operation)))
                stack.callback(_forget_losses, operation, list(getattr(operation, "_losses", ())))
            yield self.calls

    def _watched(self, layer: Any) -> Callable[..., Any]:
        original = layer.call

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            started = self._start(layer)
            if started.number in self._known:
                return self._end(started, self._known[started.number], self._passed(started))
            self._open.append(started)
            try:
                value = original(*args, **kwargs)
            finally:
                self._open.pop()
            return self._end(started, value, self._next)

        plain: Callable[..., Any] = tf.autograph.experimental.do_not_convert(call)
        return plain

    def _start(self, layer: Any) -> Call:
        path = f"{self._open[-1].path}/{layer.name}" if self._open else layer.name
        call = self.calls[self._next] = Call(layer, path, self._next)
        self._next += 1
        return call

    def _passed(self, call: Call) -> int:
        """Return the number of the next call after a call that is skipped."""
        before = self._earlier[call.number]
        if before.layer is not call.layer:
            raise UnsupportedModelError(
                f"the model calls its layers in another order each time ({before.path!r}, then "
                f"{call.path!r}); only what always runs alike can be cut at a layer"
            )
        return before.end

    def _end(self, call: Call, value: Any, number: int) -> Any:
        call.value, call.end, call.order = value, number, self._ended
        self._next = number
        self._ended += 1
        return value


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of one object inside the context, without Keras's attribute tracking."""
    own, missing = vars(owner), object()
    before = own.get(name, missing)
    own[name] = value
    try:
        yield
    finally:
        if before is missing:
            del own[name]
        else:
            own[name] = before


def _forget_losses(layer: Any, before: list[Any]) -> None:
    """Remove tensors that activity regularizers left, because they belong to our graph."""
    losses = vars(layer).get("_losses")
    if losses is not None and len(losses) != len(before):
        losses[:] = before
