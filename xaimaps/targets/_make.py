"""Functions that make targets in Python."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from xaimaps.errors import TargetError
from xaimaps.targets._base import Array, Labels, Target, TargetSpec
from xaimaps.targets._classes import Top
from xaimaps.targets._parse import parse_target
from xaimaps.targets._scores import Function, Output
from xaimaps.targets._spatial import (
    BoxSpec,
    InMemory,
    PredictedSpec,
    RegionSpec,
    SimilaritySpec,
    checked_axis,
    checked_box,
    checked_mask,
    checked_vector,
)
from xaimaps.targets._spec import (
    ClassSpec,
    ContrastSpec,
    Given,
    PerImageSpec,
    SeveralSpec,
    native_classes,
    require_one_per_image,
)


def several(*values: Any) -> TargetSpec:
    """Explain several targets of every image at once: `several("tabby", 285)`.

    Args:
        values: class indices, labels, functions of the outputs, or other single targets.

    Example:
        >>> import xaimaps
        >>> print(xaimaps.several("tabby", "Egyptian cat vs tabby"))
        tabby; Egyptian cat vs tabby
    """
    if not values:
        raise TargetError("`several` needs at least one target, got none")
    return SeveralSpec(tuple(as_spec(value) for value in values))


def contrast(for_: Any, against: Any) -> TargetSpec:
    """Explain one target against another: the first score minus the second.

    Args:
        for_: a class index, a label, None for the top class, a function of the outputs, or
            another single target.
        against: the same kinds of value.

    Example:
        >>> from xaimaps.targets import contrast
        >>> print(contrast("Egyptian cat", "tabby"))
        Egyptian cat vs tabby
    """
    return ContrastSpec((as_spec(for_), as_spec(against)))


def output(*index: int) -> TargetSpec:
    """Explain one number of the outputs, such as of a regression: `output(2)` of `(N, 4)`.

    Args:
        index: the position after the batch axis; no argument for outputs `(N,)`.
    """
    return Output(tuple(operator.index(i) for i in index))


def region(mask: Any, channel: int | str, *, axis: int | None = None) -> TargetSpec:
    """Explain the mean score of one class over a region of a segmentation.

    Args:
        mask: the path of a picture, black outside of the region, or of an `.npy` file; or an array
            `(h, w)`, or `(N, h, w)` with one mask for each image: 1 inside of the region, 0
            outside, other numbers are weights. A mask has the size of the outputs.
        channel: the class, as an index or a label.
        axis: the axis of the classes: -1 for outputs `(N, h, w, C)`, 1 for `(N, C, h, w)`; None to
            tell it from the class names and the images' aspect ratio.

    Raises:
        TargetError: the mask has another rank or is empty, or `axis` is neither -1 nor 1.
    """
    is_path = isinstance(mask, str | os.PathLike)
    source = os.fspath(mask) if is_path else InMemory(checked_mask(mask))
    return RegionSpec(source, _class_spec(channel), checked_axis(axis))


def predicted(channel: int | str, *, axis: int | None = None) -> TargetSpec:
    """Explain the mean score of one class over all positions that are predicted as that class.

    Args:
        channel: the class, as an index or a label.
        axis: see `region`.

    Raises:
        TargetError: `axis` is neither -1 nor 1.
    """
    return PredictedSpec(_class_spec(channel), checked_axis(axis))


def box(
    x0: int, y0: int, x1: int, y1: int, channel: int | str, *, axis: int | None = None
) -> TargetSpec:
    """Explain the mean score of one class over a box of a segmentation.

    Args:
        x0: the first column, in pixels of the outputs.
        y0: the first row.
        x1: the column after the last.
        y1: the row after the last.
        channel: the class, as an index or a label.
        axis: see `region`.

    Raises:
        TargetError: the box is empty, or `axis` is neither -1 nor 1.
    """
    return BoxSpec(checked_box((x0, y0, x1, y1)), _class_spec(channel), checked_axis(axis))


def similarity(embedding: Any) -> TargetSpec:
    """Explain the cosine similarity of the model's embedding `(N, D)` to another embedding.

    Args:
        embedding: the path of a picture, which the model embeds, or of an `.npy` file; or an
            array `(D,)`, or `(N, D)` with one vector for each image.

    Raises:
        TargetError: the array has another rank, or is zero.
    """
    is_path = isinstance(embedding, str | os.PathLike)
    return SimilaritySpec(os.fspath(embedding) if is_path else InMemory(checked_vector(embedding)))


def as_target(value: Any, batch: int, labels: Labels = None) -> Target:
    """Make a target from a user's value, for a batch of `batch` images.

    Args:
        value: see `as_spec`.
        batch: the number of images.
        labels: the name of each class, if known.

    Raises:
        TargetError: the value is not a target, an unknown label, or a list of another length.
    """
    if isinstance(value, Target):
        return value
    return as_spec(value, batch).resolve(batch, labels)


def as_spec(value: Any, batch: int = 1) -> TargetSpec:
    """Make a printable target from a user's value.

    Args:
        value: None (the top class), text for `parse_target`, a class index, a function of the
            outputs, a result of a function of this module, a list with a class for each image,
            or a target.
        batch: the number of images that an array without axes applies to.

    Raises:
        TargetError: the value is none of these.
    """
    if isinstance(value, TargetSpec):
        return value
    if isinstance(value, Target):
        return Given(value)
    if value is None:
        return Top()
    if isinstance(value, str):
        return parse_target(value)
    if callable(value):
        return Function(value)
    if isinstance(value, int | np.integer):
        return _class_spec(value)
    return _per_image(value, batch)


def _per_image(value: Any, batch: int) -> TargetSpec:
    """Make a target from a list or array of classes; a native integer array is kept."""
    is_array = hasattr(value, "dtype") and hasattr(value, "shape")
    if not is_array and not isinstance(value, Sequence):
        raise TargetError(_expected(value))
    if not is_array:
        return PerImageSpec(tuple(_class_spec(one).name for one in value))
    return _array_per_image(value, batch)


def _array_per_image(array: Array, batch: int) -> TargetSpec:
    if tuple(array.shape) == ():
        return _scalar_class(array)
    if not isinstance(array, np.ndarray):
        return native_classes(array)
    require_one_per_image(array.shape, array.shape[0] if array.ndim == 1 else batch)
    return PerImageSpec(tuple(_class_spec(one).name for one in array))


def _scalar_class(array: Array) -> ClassSpec:
    """Make the target of an array without axes, such as `tf.argmax(scores[0])`."""
    if isinstance(array, np.ndarray | np.generic):
        return _class_spec(array.item())
    try:
        return _class_spec(operator.index(array))
    except TypeError:
        raise TargetError(_expected(array)) from None


def _class_spec(value: Any) -> ClassSpec:
    """Make the target of one class, given as an index or a label."""
    if isinstance(value, str):
        return ClassSpec(value)
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TargetError(_expected(value))
    return ClassSpec(int(value))


def _expected(value: Any) -> str:
    return (
        "`target` must be a class index, a label, 'top-K', a function of the outputs or a list "
        f"with one of them for each image, got {value!r}"
    )
