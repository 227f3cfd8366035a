"""Conversion of a Keras model to an ONNX graph whose weights are inputs.

tf2onnx copies a graph with its weights several times: 24 GB for the 0.5 GB of VGG16. Therefore the
model is traced as a function of its images and its large variables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

from xaimaps.errors import UnsupportedModelError, XaimapsError
from xaimaps_tensorflow.to_onnx._layer_outputs import kept_apart
from xaimaps_tensorflow.to_onnx._model import Subject
from xaimaps_tensorflow.to_onnx._patches import HANDLERS, repaired

Array = np.ndarray[Any, Any]

BIG = 1024
"""Vectors with fewer elements are constants of the graph, so that tf2onnx folds a batch
normalisation to a factor and a bias. A kernel never is, or tf2onnx would multiply it by the
factor."""


_ZERO = tf.TensorSpec((), tf.float32, name="xaimaps_zero")


@dataclass(frozen=True)
class Traced:
    """A graph and its weights.

    Attributes:
        proto: the graph, with an input for each weight.
        weights: the weights by the names of these inputs.
        output: the name of the model's own output.
    """

    proto: onnx.ModelProto
    weights: dict[str, Array]
    output: str


def trace(subject: Subject, exposed: Sequence[Any], opset: int) -> Traced:
    """Convert a model to a graph.

    Args:
        subject: the model.
        exposed: layers whose values must be in the graph, even if tf2onnx would fuse them with
            others.
        opset: the opset of the graph.

    Raises:
        UnsupportedModelError: tf2onnx cannot convert the model.
    """
    with repaired():
        try:
            return _trace(subject, exposed, opset)
        except XaimapsError:
            raise
        except Exception as error:  # the three libraries may raise anything
            first = " ".join(str(error).split())[:300].rstrip(". ")
            raise UnsupportedModelError(
                f"tf2onnx cannot convert the model {subject.model.name!r} "
                f"({type(error).__name__}: {first}); explain it with the backend 'tensorflow'"
            ) from error


def _trace(subject: Subject, exposed: Sequence[Any], opset: int) -> Traced:
    big = [v for v in subject.model.variables if len(v.shape) > 1 or np.prod(v.shape) >= BIG]
    names: list[str] = []

    specs = subject.specs

    def run(*arguments: Any) -> dict[str, Any]:
        inputs, (zero, *weights) = arguments[: len(specs)], arguments[len(specs) :]
        with (
            keras.StatelessScope(state_mapping=list(zip(big, weights, strict=True))),
            kept_apart(exposed, zero),
        ):
            name, output = subject(*inputs)
        names.append(name)
        return {name: output}

    traced = tf.function(run, autograph=False)
    signature = [*specs, _ZERO, *map(_weight_spec, range(len(big)), big)]
    proto, _ = tf2onnx.convert.from_function(
        traced, input_signature=signature, opset=opset, custom_op_handlers=dict(HANDLERS)
    )
    weights = {"xaimaps_zero": np.zeros((), np.float32)}
    weights.update({f"weights_{i}": _shared(v) for i, v in enumerate(big)})
    captured = _captured(traced.get_concrete_function(*signature), proto)
    return Traced(proto, {**weights, **captured}, names[0])


def _shared(variable: Any) -> Array:
    """Return a variable's own memory, without a copy."""
    return np.asarray(tf.convert_to_tensor(variable.value))


def _weight_spec(index: int, variable: Any) -> Any:
    return tf.TensorSpec(variable.shape, variable.dtype, name=f"weights_{index}")


def _captured(concrete: Any, proto: onnx.ModelProto) -> dict[str, Array]:
    """Return tensors that layers hold, as Normalization does; tf2onnx makes inputs of them."""
    inputs = {value.name for value in proto.graph.input}
    pairs = zip(concrete.inputs[-len(concrete.captured_inputs) :], concrete.captured_inputs)  # noqa: B905
    return {
        inside.name: outside.numpy()
        for inside, outside in pairs
        if inside.name in inputs and outside.dtype != tf.resource
    }
