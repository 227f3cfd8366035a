"""Variables in the place of those of a model, which keeps its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from xaimaps.errors import UnsupportedModelError
from xaimaps_tensorflow._inspection import Reading

if TYPE_CHECKING:
    from xaimaps_tensorflow._program import KerasProgram

Weights = Mapping[str, np.ndarray[Any, Any]]
Pairs = Sequence[tuple[Any, Any]]


@contextmanager
def shadowing(shadows: Pairs) -> Iterator[None]:
    """Let Keras read other variables in the place of a model's own, pair by pair."""
    if not shadows:
        yield
        return
    with keras.StatelessScope(shadows):
        yield


def shadowed(
    program: KerasProgram,
) -> tuple[KerasProgram, dict[str, Weights], Callable[[Weights], None]]:
    """Return a model with variables of its own, the weights of its layers, and how to set them.

    Raises:
        UnsupportedModelError: the variables are not those of Keras 3.
    """
    own = program.model.variables
    if not all(isinstance(one, keras.Variable) for one in own):
        raise UnsupportedModelError(
            "other weights need a model of Keras 3, got one of tf_keras; convert it to ONNX with "
            "`xaimaps convert`"
        )
    copies = [(one, tf.Variable(one.value, trainable=False)) for one in own if _is_float(one)]
    shadowed = program.with_shadows(copies)
    variables = {id(copy.handle): copy for _, copy in copies}
    layers = {
        layer: {name: variables[handle] for name, handle in handles.items() if handle in variables}
        for layer, handles in _handles(shadowed.usual).items()
    }
    by_name = {name: variable for each in layers.values() for name, variable in each.items()}

    def assign(weights: Weights) -> None:
        for name, array in weights.items():
            by_name[name].assign(array)

    values: dict[str, Weights] = {
        layer: {name: variable.numpy() for name, variable in each.items()}
        for layer, each in layers.items()
    }
    return shadowed, values, assign


def _is_float(variable: Any) -> bool:
    return bool(tf.as_dtype(variable.dtype).is_floating)


def _handles(reading: Reading) -> dict[str, dict[str, int]]:
    """Return the variables of floats that each layer reads, by the names of their tensors."""
    captures = reading.trace.output.graph.captures
    known = {inside.name: id(outside) for outside, inside in captures}
    return {
        layer: {name: known[name] for name in names if name in known}
        for layer, names in reading.graph.layer_weights.items()
    }
