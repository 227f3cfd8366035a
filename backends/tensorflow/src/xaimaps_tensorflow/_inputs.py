"""The image input of a Keras model, and the values of its other inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from xaimaps._inputs import as_row, require_known, require_single
from xaimaps.errors import UnsupportedModelError
from xaimaps.graph import SIDES, with_size
from xaimaps_tensorflow._options import require_options
from xaimaps_tensorflow._trace import operations_in, replaced

Shape = tuple[int | None, ...]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ImageInput:
    """The form in which a model takes a batch of images.

    Attributes:
        shape: `(*spatial, channels)`, None for a size that varies.
        structure: the structure of the model's inputs: nothing, a list or a dictionary.
        dtype: the declared type; None if there is none, or if it is an integer.
        casting: the model, if it would cast the batch to integers.
        rows: the value of each of the model's inputs for one image, None for the images.
        name: the name of the input, if it has one.
        is_vector: whether the input is a vector, whose batch has a last axis of one channel.
    """

    shape: Shape
    structure: Any = None
    dtype: Any = None
    casting: Any = None
    rows: Sequence[Array | None] = (None,)
    name: str = ""
    is_vector: bool = False

    def packed(self, images: Any) -> Any:
        """Return a batch in the structure and type of the model's inputs."""
        rows = (row for row in self.rows if row is not None)
        return self.joined(images, (tf.repeat(row[None], images.shape[0], 0) for row in rows))

    def joined(self, images: Any, others: Iterable[Any]) -> Any:
        """Return a batch, and the values of the other inputs, as `packed` does."""
        if self.is_vector:
            images = tf.squeeze(images, -1)
        if self.dtype is not None:
            images = tf.cast(images, self.dtype)
        left = map(tf.convert_to_tensor, others)
        values = [images if row is None else next(left) for row in self.rows]
        return tf.nest.pack_sequence_as(self.structure, values)

    @contextmanager
    def in_floats(self) -> Iterator[None]:
        """Disable a cast of pixels to integers, because no gradient passes it."""
        with ExitStack() as stack:
            if self.casting is not None:
                inside = getattr(self.casting, "_functional", None) or self.casting
                stack.enter_context(replaced(inside, "_convert_inputs_to_tensors", list))
                stack.enter_context(replaced(self.casting, "_convert_input_args", False))
            yield


def image_input(
    model: Any,
    shape: Sequence[int | None] | None = None,
    size: Sequence[int] | None = None,
    given: Mapping[str, Array] | None = None,
) -> ImageInput:
    """Return the image input of a model.

    Args:
        model: the model.
        shape: `(*spatial, channels)` of a subclassed model, if it differs from the shape with
            which the model was built. The model is not built with it, as that would change the
            model.
        size: the spatial size of the images, if the model takes any.
        given: the values of the model's other inputs for one image, by name.

    Raises:
        ArrayInputError: `size` is not a size, or contradicts the model's; or a value of `given`
            does not fit the model.
        ModelLoadError: `shape` is not a shape.
        UnsupportedModelError: the model has several inputs without a value, or no weights, or its
            input is not a batch of images with channels last and of this shape.
    """
    require_options(input_shape=shape)
    _require_built(model, shape or (None, None, None))
    declared = declared_inputs(model)
    rows = [_row(one, given or {}) for one in declared]
    require_known(given or {}, [one.name for one in declared])
    inputs = [one for one, row in zip(declared, rows, strict=True) if row is None]
    if declared:
        require_single([(one.name, one.shape, one.dtype) for one in inputs])
    whole = (None, *shape) if shape is not None else _shape(model, inputs)
    is_vector = bool(given) and len(whole) == 2 and tf.as_dtype(inputs[0].dtype).is_floating
    whole = (*whole, 1) if is_vector else whole
    _require_images(model, whole)
    _require_own(model, inputs, whole[:-1] if is_vector else whole)
    own = with_size(whole[1:], size)
    if not inputs:
        return ImageInput(own)
    structure = getattr(model, "_inputs_struct", declared if len(declared) > 1 else None)
    dtype = tf.as_dtype(inputs[0].dtype)
    if dtype.is_floating:
        return ImageInput(own, structure, dtype, None, rows, inputs[0].name, is_vector)
    return ImageInput(own, structure, None, model, rows, inputs[0].name, is_vector)


def first_images(model: Any, shape: Sequence[int | None] | None = None) -> ImageInput:
    """Return the first input that may be images, for a program that takes all inputs.

    Its rows only tell the images from the others.
    """
    ranked = sorted(declared_inputs(model), key=lambda one: -len(one.shape))
    if ranked:
        _require_images(model, tuple(ranked[0].shape))
    zeros = {one.name: np.zeros([size or 1 for size in one.shape[1:]]) for one in ranked[1:]}
    return image_input(model, shape, given=zeros)


def _row(one: Any, given: Mapping[str, Array]) -> Array | None:
    """Return the value of a symbolic input, in its shape and type; None if it has none."""
    if one.name not in given:
        return None
    return as_row(one.name, given[one.name], one.shape[1:], tf.as_dtype(one.dtype).as_numpy_dtype)


def _require_built(model: Any, shape: Sequence[int | None]) -> None:
    if not getattr(model, "built", True):
        names = (*("depth", "height", "width")[-len(shape) + 1 :], "channels")
        sizes = ", ".join(str(size or name) for size, name in zip(shape, names, strict=True))
        raise UnsupportedModelError(
            f"the model {model.name!r} is not built, so that it has no weights yet; call it once "
            f"on a batch of images, as model(numpy.zeros((1, {sizes}))), and load its weights"
        )


def _require_own(model: Any, inputs: list[Any], shape: Shape) -> None:
    """Refuse sizes that contradict the model's declared sizes."""
    declared = tuple(inputs[0].shape) if inputs else shape
    if any(None not in pair and pair[0] != pair[1] for pair in zip(declared, shape, strict=True)):
        raise UnsupportedModelError(
            f"the model {model.name!r} takes images of the shape {declared[1:]}, but `input_shape` "
            f"is {shape[1:]}; leave it out"
        )


def declared_inputs(model: Any) -> list[Any]:
    """Return the symbolic inputs, which a subclassed model does not have."""
    try:
        return list(model.inputs or ())
    except (AttributeError, ValueError):
        return []


def _shape(model: Any, inputs: list[Any]) -> Shape:
    if inputs:
        return tuple(inputs[0].shape)
    shapes = getattr(model, "_build_shapes_dict", None) or {}
    built = next(iter(shapes.values()), None) or getattr(model, "_build_input_shape", None)
    if built is None:
        raise UnsupportedModelError(
            f"the model {model.name!r} does not say what images it takes; give "
            "input_shape=(height, width, channels)"
        )
    return tuple(built)


def _require_images(model: Any, shape: Shape) -> None:
    if len(shape) - 2 not in SIDES or shape[-1] is None:
        raise UnsupportedModelError(
            "the model's input must be a batch of images (N, height, width, channels), volumes or "
            f"signals, got shape {shape}"
        )
    for layer in operations_in(model):
        if getattr(layer, "data_format", None) == "channels_first":
            raise UnsupportedModelError(
                f"the layer {layer.name!r} has its channels first, which TensorFlow runs on some "
                "GPUs only; build the model with data_format='channels_last'"
            )
