"""Sessions of ONNX Runtime for parts of one graph, each created on first use."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from xaimaps.errors import BackendError, OutOfMemoryError, UnsupportedModelError
from xaimaps_onnx.runtime._subgraph import (
    bypass,
    dequantize_floats,
    infer_types,
    inline_if,
    part_of,
    shape_name,
    with_shapes,
)

Values = dict[str, np.ndarray[Any, Any]]

MOST_SESSIONS = 6
"""The largest number of sessions to keep. A method at a layer uses three, and each holds a copy of
the weights that it needs."""

TOO_LITTLE_MEMORY = "Failed to allocate memory"
"""A part of the messages about too little memory, which have no class of their own."""

ERRORS_ONLY, FATAL_ONLY = 3, 4


class Sessions:
    """One model in ONNX Runtime, whole or cut at given values.

    Args:
        model: the graph without its weights; this object modifies it.
        weights: the weights by name; a session copies those that it needs.
        providers: ONNX Runtime's execution providers.

    Raises:
        BackendError: a provider is not available.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        weights: Mapping[str, np.ndarray[Any, Any]],
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        self._model = infer_types(model)
        self._weights = {name: _shared(array) for name, array in weights.items()}
        self._providers = _available(providers)
        self._sessions: dict[tuple[tuple[str, ...], ...], onnxruntime.InferenceSession] = {}

    def copied(self) -> Sessions:
        """Return the same model with weights of its own."""
        copied = copy.copy(self)
        copied._model = onnx.ModelProto()
        copied._model.CopyFrom(self._model)
        copied._weights, copied._sessions = {**self._weights}, {}
        return copied

    def assign(self, weights: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Replace some weights, for all later runs."""
        big = weights.keys() & self._weights.keys()
        self._weights.update((name, _shared(weights[name])) for name in big)
        for tensor in self._model.graph.initializer:
            if tensor.name in weights.keys() - big:
                tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
        self._sessions.clear()

    def inline_if(self, conditions: Mapping[str, bool]) -> None:
        """Inline the branch of each If with a known condition, for all later runs."""
        inline_if(self._model, conditions)
        self._sessions.clear()

    def dequantize_floats(self, values: Collection[str]) -> None:
        """Compute some DequantizeLinear from integers as floats, for all later runs."""
        dequantize_floats(self._model, values)
        self._sessions.clear()

    def bypass(self, replaced: Mapping[str, str]) -> None:
        """Replace some values by others, for all later runs."""
        bypass(self._model, replaced)
        self._sessions.clear()

    def probe(
        self,
        given: Values,
        shaped: Sequence[str],
        wanted: Sequence[str],
        conditions: Mapping[str, bool],
    ) -> tuple[dict[str, tuple[int, ...]], Values]:
        """Return the shapes of some values, and some values, from a session that is not kept.

        Args:
            given: inputs of the graph.
            shaped: the values of which to return the shapes.
            wanted: the values to return.
            conditions: whether each If takes its then-branch, for values inside it.
        """
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        inline_if(model, conditions)
        part = with_shapes(part_of(model, given, shaped), shaped, wanted)
        session = self._opened(part)
        names = [value.name for value in part.graph.output]
        quiet = onnxruntime.RunOptions()
        quiet.log_severity_level = FATAL_ONLY  # a size at which it fails is one of several tried
        with _one_sentence("run the model"):
            results = dict(zip(names, session.run(names, given, quiet), strict=True))
        values = {name: results[name] for name in wanted}
        return {name: tuple(map(int, results[shape_name(name)])) for name in shaped}, values

    def run(self, given: Values, wanted: Sequence[str]) -> Values:
        """Compute values from others, with only the nodes between them.

        Args:
            given: inputs of the graph, or values from inside it.
            wanted: the names of the values to return, which may include given ones.

        Raises:
            UnsupportedModelError: ONNX Runtime cannot run this graph on these values.
            OutOfMemoryError: it could not allocate the memory of a value.
        """
        names = [name for name in dict.fromkeys(wanted) if name not in given]
        if not names:
            return dict(given)
        session = self._session(given, names)
        with _one_sentence("run the model"):
            results = session.run(names, given)
        return {**given, **dict(zip(names, results, strict=True))}

    def _session(self, given: Values, wanted: Sequence[str]) -> onnxruntime.InferenceSession:
        key = (tuple(given), tuple(wanted))
        session = self._sessions.pop(key, None)
        if session is None:
            while len(self._sessions) >= MOST_SESSIONS:
                del self._sessions[next(iter(self._sessions))]  # the least recently used
            session = self._opened(part_of(self._model, given, wanted))
        self._sessions[key] = session
        return session

    def _opened(self, part: onnx.ModelProto) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        names = [t.name for t in part.graph.initializer if t.name in self._weights]
        options.add_external_initializers(names, [self._weights[name] for name in names])
        with _one_sentence("load the model"):
            return onnxruntime.InferenceSession(
                part.SerializeToString(), options, providers=self._providers
            )


def _shared(array: np.ndarray[Any, Any]) -> Any:
    """Return an array for ONNX Runtime, without a copy."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))


def _available(providers: Sequence[str]) -> list[str]:
    providers = [providers] if isinstance(providers, str) else providers
    have = onnxruntime.get_available_providers()
    if not isinstance(providers, Sequence) or not providers or set(map(str, providers)) - set(have):
        raise BackendError(
            f"`providers` must be among those of this ONNX Runtime ({', '.join(have)}), got "
            f"{providers!r}"
        )
    return list(providers)


@contextmanager
def _one_sentence(task: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # its errors have no common base class
        if TOO_LITTLE_MEMORY in str(error):
            raise OutOfMemoryError(
                f"ONNX Runtime has too little memory to {task}; explain fewer or smaller images at "
                "once (`batch_size`)"
            ) from error
        first = " ".join(str(error).split())[:300].rstrip(". ")
        raise UnsupportedModelError(
            f"ONNX Runtime cannot {task} ({first}); export it again, or use the backend 'jax'"
        ) from error
