"""The Keras model that is converted: its image input, its chosen output, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from xaimaps_tensorflow.inputs import ImageInput, image_input
from xaimaps_tensorflow.tracing import operations_in

from xaimaps.errors import UnsupportedModelError

REFUSED_TYPES = {"bfloat16", "float64"}
"""Types that ONNX Runtime's convolutions do not compute in."""

MOST_BYTES = 2_000_000_000
"""What protobuf can hold is 2 GiB; the graph itself needs some of it."""


@dataclass(frozen=True)
class Subject:
    """A Keras 3 model with one image input.

    Attributes:
        model: the model.
        images: how it takes them.
        batch: the batch size that it insists on.
        output: the name or index of the output to convert; None if there is one only.
    """

    model: Any
    images: ImageInput
    batch: int | None = None
    output: str | int | None = None

    @property
    def image_shape(self) -> tuple[int | None, ...]:
        """`(batch, height, width, channels)`, None where a size varies."""
        return (self.batch, *self.images.shape)

    @property
    def input_name(self) -> str:
        """The name of its input layer; `images` where Keras made one up."""
        inputs = getattr(self.model, "inputs", None) or ()
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", inputs[0].name) if inputs else ""
        return "images" if not name or name.startswith("keras_tensor") else name

    @property
    def is_half(self) -> bool:
        """Whether any layer computes in float16."""
        return any(_compute_type(layer) == "float16" for layer in operations_in(self.model))

    def __call__(self, images: Any) -> tuple[str, Any]:
        """The chosen output of the model in inference mode, and its name."""
        with self.images.in_floats():
            # Said each time: layers such as Resizing leak training mode into those behind them.
            return self._chosen(self.model(self.images.packed(images), training=False))

    def _chosen(self, outputs: Any) -> tuple[str, Any]:
        named = self._named(outputs)
        if isinstance(self.output, int) and -len(named) <= self.output < len(named):
            return list(named.items())[self.output]
        if self.output is None and len(named) == 1:
            return next(iter(named.items()))
        if self.output not in named:
            raise UnsupportedModelError(
                f"`output` must name one of the model's outputs ({', '.join(named)}), got "
                f"{self.output!r}"
            )
        return self.output, named[self.output]

    def _named(self, outputs: Any) -> dict[str, Any]:
        own = list(getattr(self.model, "output_names", None) or ())
        if isinstance(outputs, Mapping):
            return dict(outputs)
        flat = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
        made_up = ["output"] if len(flat) == 1 else [f"output_{i}" for i in range(len(flat))]
        fits = len(own) == len(flat) == len(set(own))
        return dict(zip(own if fits else made_up, flat, strict=True))


def subject_of(
    model: Any, *, output: str | int | None = None, input_shape: Sequence[int | None] | None = None
) -> Subject:
    """Take a model, or refuse it by name.

    Args:
        model: a Keras 3 model on TensorFlow.
        output: the name or the index of one of several outputs.
        input_shape: `(height, width, channels)`, for a model that was never called.
    """
    _require_keras(model)
    if input_shape is not None and not model.built:
        model(np.zeros([size or 64 for size in (1, *input_shape)], np.float32), training=False)
    images = image_input(model, input_shape)
    for layer in operations_in(model):
        _require_type(layer)
    size = sum(np.prod(v.shape) * np.dtype(v.dtype).itemsize for v in model.variables)
    if size > MOST_BYTES:
        raise UnsupportedModelError(
            f"an ONNX model in one piece holds at most 2 GB of weights, but this one has "
            f"{size / 1e9:.1f} GB; convert a smaller model"
        )
    inputs = getattr(model, "inputs", None)
    return Subject(model, images, inputs[0].shape[0] if inputs else None, output)


def _require_keras(model: Any) -> None:
    if type(model).__module__.startswith("tf_keras"):
        raise UnsupportedModelError(
            "a model of Keras 3 is converted, got one of tf_keras; save it with "
            "model.save('model.h5') and convert that file"
        )
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
