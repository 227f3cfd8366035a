"""Running a model once in a graph while watching, and replacing, what its layers return.

A layer is watched by a wrapper that stands in the instance's own `__dict__` while the model is
traced, and is gone afterwards: it works alike for functional, sequential, nested and subclassed
models, needs no second model, and leaves the user's as it was.
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
"""One thread at a time may have its wrappers in a model."""


@dataclass(eq=False)
class Call:
    """One call of a layer while a model ran.

    Attributes:
        layer: what was called.
        path: its name, behind the names of those that it was called in.
        number: which call it is, counted from the start of each.
        end: the number of the next call that is not inside this one.
        order: which call it is, counted from the end of each.
        value: what it returned.
    """

    layer: Any
    path: str
    number: int
    end: int = -1
    order: int = -1
    value: Any = None


Calls = dict[int, Call]


def named(calls: Mapping[int, Call]) -> Iterator[tuple[str, Call]]:
    """Each call by its layer's path, with the number of the call behind it where there are more."""
    counts, seen = Counter(call.path for call in calls.values()), Counter[str]()
    for call in calls.values():
        yield f"{call.path}:{seen[call.path]}" if counts[call.path] > 1 else call.path, call
        seen[call.path] += 1


def is_model(layer: object) -> bool:
    """Whether it is one of Keras's models, of either version."""
    return any(kind.__name__ == "Model" and _is_keras(kind) for kind in type(layer).__mro__)


def _is_keras(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in ("keras", "tf_keras")


def operations_in(model: Any) -> list[Any]:
    """Every layer and operation inside a model; one that Keras itself puts together is one."""
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
    """Watches one run of a model.

    Args:
        operations: what is watched.
        known: what calls are to return in place of what they would, by number.
        earlier: the calls of a run like this one; needed if anything is known.
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
        """Watch all that runs inside; yields the calls."""
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
        """Where a run goes on behind a call that is left out."""
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
    """Set an attribute of one object for a while, behind the back of what Keras tracks."""
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
    """Activity regularizers leave tensors of our graph behind, which nobody could use."""
    losses = vars(layer).get("_losses")
    if losses is not None and len(losses) != len(before):
        losses[:] = before
