"""The call of a user's model in a graph, which leaves the model unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import tensorflow as tf
from xaimaps_keras.messages import own_words, summary

from xaimaps.errors import UnsupportedModelError, XaimapsError
from xaimaps_tensorflow._trace import replaced

NOTES = frozenset({"_called", "_parent_path"})
"""Attributes that Keras sets in every layer that is called."""


def call(model: Any, inputs: Any, shape: tuple[int | None, ...]) -> Any:
    """Call a model in inference mode.

    Args:
        model: a Keras model.
        inputs: its inputs, in its own structure.
        shape: the shape of an image, for messages.

    Raises:
        UnsupportedModelError: the model cannot be called on these inputs.
    """
    try:
        with _unchanged(model):
            return model(inputs, training=False)
    except XaimapsError as error:
        raise type(error)(own_words(error)) from error
    except tf.errors.OperatorNotAllowedInGraphError as error:
        raise UnsupportedModelError(
            "the model's own code asks for the values of tensors, which have none while it is "
            "compiled; write such an `if` with keras.ops.cond or keras.ops.where"
        ) from error
    except Exception as error:  # Keras, TensorFlow and the model's own code may raise anything
        raise UnsupportedModelError(
            f"the model {model.name!r} does not run on images of the shape {shape} "
            f"({summary(error)}); check `input_shape`, and that the model answers when it is "
            "called on such images"
        ) from error


@contextmanager
def _unchanged(model: Any) -> Iterator[None]:
    """Prevent a call from creating weights, and undo all that it notes in the layers."""
    with ExitStack() as stack:
        for layer in model._flatten_layers():
            if not layer.built:
                stack.enter_context(replaced(layer, "build", _refusing(model, layer)))
            for name in vars(layer).keys() & NOTES:
                stack.enter_context(replaced(layer, name, getattr(layer, name)))
            if vars(layer).get("_graph_initialized") and not layer._has_explicit_input_shape:
                # A Sequential of tf_keras without an Input would rebuild its graph.
                stack.enter_context(replaced(layer, "_has_explicit_input_shape", True))
        yield


def _refusing(model: Any, layer: Any) -> Callable[..., None]:
    def build(*_args: Any, **_kwargs: Any) -> None:
        raise UnsupportedModelError(
            f"the layer {layer.name!r} of the model {model.name!r} has no weights yet; call the "
            "model once on a batch of images"
        )

    return build
