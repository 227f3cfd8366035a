"""Operators on tensors in files of Keras 2, for Keras 3, which has no classes with their names.

In Keras 2, `x / 127.5` and `tf.nn.relu6(x)` became a `TFOpLambda` layer with the name of a function
of TensorFlow. Here such a name must be in a fixed table; otherwise the file is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import keras


class Operation(NamedTuple):
    """A function of `keras.ops`, and its parameters by TensorFlow's names."""

    name: str
    parameters: Mapping[str, str]


_BINARY = {"x": "x1", "y": "x2"}
_FEATURES = {"features": "x"}
_REDUCTION = {"input_tensor": "x", "axis": "axis", "keepdims": "keepdims"}
_LIMITS = {"t": "x", "clip_value_min": "x_min", "clip_value_max": "x_max"}

OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "__operators__.add": Operation("add", _BINARY),
        "math.add": Operation("add", _BINARY),
        "math.subtract": Operation("subtract", _BINARY),
        "math.multiply": Operation("multiply", _BINARY),
        "math.truediv": Operation("true_divide", _BINARY),
        "math.divide": Operation("true_divide", _BINARY),
        "math.maximum": Operation("maximum", _BINARY),
        "math.minimum": Operation("minimum", _BINARY),
        "math.negative": Operation("negative", {"x": "x"}),
        "math.sigmoid": Operation("sigmoid", {"x": "x"}),
        "math.tanh": Operation("tanh", {"x": "x"}),
        "math.reduce_mean": Operation("mean", _REDUCTION),
        "math.reduce_max": Operation("max", _REDUCTION),
        "math.reduce_sum": Operation("sum", _REDUCTION),
        "nn.relu": Operation("relu", _FEATURES),
        "nn.relu6": Operation("relu6", _FEATURES),
        "nn.sigmoid": Operation("sigmoid", {"x": "x"}),
        "nn.silu": Operation("silu", _FEATURES),
        "nn.softmax": Operation("softmax", {"logits": "x", "axis": "axis"}),
        "clip_by_value": Operation("clip", _LIMITS),
        "concat": Operation("concatenate", {"values": "xs", "axis": "axis"}),
        "reshape": Operation("reshape", {"tensor": "x", "shape": "newshape"}),
        "cast": Operation("cast", {"x": "x", "dtype": "dtype"}),
    }
)
"""The functions that `TFOpLambda` may call, by TensorFlow's name without `tf.`"""


class TensorOperation(keras.layers.Layer):  # type: ignore[misc]  # keras is untyped
    """The replacement of a `TFOpLambda`.

    Args:
        function: a key of `OPERATIONS`.
        options: the options of every layer.
    """

    def __init__(self, function: str, **options: Any) -> None:
        super().__init__(**options)
        self.function = function

    def call(self, tensor: Any, **others: Any) -> Any:
        """Call the function.

        The keywords have TensorFlow's names. `tensor` is the first parameter that they lack.
        """
        operation = OPERATIONS[self.function]
        names = operation.parameters
        given = {names[key]: value for key, value in others.items()}
        first = next(name for name in names.values() if name not in given)
        return getattr(keras.ops, operation.name)(**{first: tensor, **given})

    def get_config(self) -> dict[str, Any]:
        """Return the options that recreate the layer."""
        return {**super().get_config(), "function": self.function}
