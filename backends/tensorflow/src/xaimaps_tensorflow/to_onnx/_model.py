"""The Keras model to convert: its inputs, its chosen output, and unsupported models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from xaimaps.errors import UnsupportedModelError
from xaimaps_tensorflow._inputs import ImageInput, declared_inputs, first_images
from xaimaps_tensorflow._outputs import chosen_output, named_outputs
from xaimaps_tensorflow._trace import operations_in

EXACT = 1e-4
HALF = 3e-2

REFUSED_TYPES = {"bfloat16", "float64"}
"""Types for which ONNX Runtime has no convolutions."""

MOST_BYTES = 2_000_000_000
"""The most bytes of weights; protobuf can hold 2 GiB, and the graph needs a part of it."""


@dataclass(frozen=True)
class Subject:
    """A Keras 3 model of images.

    Attributes:
        model: the model.
        images: its image input, the first of several.
        batch: the batch size that it requires.
        output: the name or index of the output to convert; None if there is only one.
    """

    model: Any
    images: ImageInput
    batch: int | None = None
    output: str | int | None = None

    @property
    def image_shape(self) -> tuple[int | None, ...]:
        """`(batch, *spatial, channels)`, None for a size that varies."""
        return (self.batch, *self.images.shape)

    @property
    def specs(self) -> list[Any]:
        """The shape, type and name of each input, the images first."""
        pairs = list(zip(self.images.rows, declared_inputs(self.model), strict=False))
        name = next((_name(one) for row, one in pairs if row is None), "images")
        own = "images" if name.startswith("keras_tensor") else name  # which Keras generates
        others = [one for row, one in pairs if row is not None]
        return [
            tf.TensorSpec(self.image_shape, tf.float32, own),
            *(tf.TensorSpec(one.shape, one.dtype, _name(one)) for one in others),
        ]

    @property
    def tolerance(self) -> float:
        """The largest allowed difference of outputs, relative to the largest output."""
        return HALF if self.is_half else EXACT

    @property
    def is_half(self) -> bool:
        """Whether any layer computes in float16."""
        return any(_compute_type(layer) == "float16" for layer in operations_in(self.model))

    def __call__(self, images: Any, *others: Any) -> tuple[str, Any]:
        """Return the name and the value of the chosen output in inference mode."""
        with self.images.in_floats():
            # Explicitly, because layers such as Resizing pass training mode to the layers after.
            value = self.model(self.images.joined(images, others), training=False)
        outputs = named_outputs(self.model, value)
        if self.output is None and len(outputs) > 1:
            raise UnsupportedModelError(
                f"`output` must name one of the model's outputs ({', '.join(outputs)}), of which a "
                "file holds one"
            )
        return chosen_output(outputs, self.output)


def subject_of(
    model: Any, *, output: str | int | None = None, input_shape: Sequence[int | None] | None = None
) -> Subject:
    """Return a model for conversion, or refuse it with the name of the cause.

    Args:
        model: a Keras 3 model on TensorFlow.
        output: the name or the index of one of several outputs.
        input_shape: `(height, width, channels)`, for a model that was never called.
    """
    _require_keras(model)
    images = first_images(model, input_shape)
    for layer in operations_in(model):
        _require_type(layer)
    size = sum(np.prod(v.shape) * np.dtype(v.dtype).itemsize for v in model.variables)
    if size > MOST_BYTES:
        raise UnsupportedModelError(
            f"an ONNX model in one piece holds at most 2 GB of weights, but this one has "
            f"{size / 1e9:.1f} GB; convert a smaller model"
        )
    inputs = declared_inputs(model)
    return Subject(model, images, inputs[0].shape[0] if inputs else None, output)


def _name(declared: Any) -> str:
    """Return the name of an input layer, without characters that tf2onnx replaces."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", declared.name)


def _require_keras(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise UnsupportedModelError(
            f"a Keras model is converted, got {type(model).__name__}; wrap it in a keras.Model"
        )
    if keras.backend.backend() != "tensorflow":
        raise UnsupportedModelError(
            f"the converter needs Keras on TensorFlow, but it runs on {keras.backend.backend()}; "
            "set KERAS_BACKEND=tensorflow"
        )


def _require_type(layer: Any) -> None:
    if _compute_type(layer) in REFUSED_TYPES:
        raise UnsupportedModelError(
            f"the layer {layer.name!r} computes in {_compute_type(layer)}, which ONNX Runtime "
            "does not; build the model with the policy float32 or mixed_float16"
        )


def _compute_type(layer: Any) -> str:
    return str(getattr(layer, "compute_dtype", ""))
