"""The search for a model's layers in its graph, by their values and not by their names.

Names identify between four layers in ten and nearly all, depending on the network, and some names
are wrong. Equal values on random images are needed as a proof in any case.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

Array = np.ndarray[Any, Any]

VIEWS = frozenset({"Identity", "Transpose", "Reshape", "Cast", "Squeeze", "Unsqueeze"})
"""Operators whose results have the values of their input, which is the layer's own tensor."""


ROUNDING = 1e-6
"""The rounding error of equal values in float32, relative to the largest."""


@dataclass(frozen=True)
class Value:
    """A tensor of the graph.

    Attributes:
        name: its name.
        array: its value for the probe images, as it is or with its first channels moved last.
        rank: the preference among tensors with the same value; the smallest is chosen.
        origin: the name of its node.
    """

    name: str
    array: Array
    rank: tuple[int, int]
    origin: str


def locate(
    proto: onnx.ModelProto,
    values: Mapping[str, Array],
    layers: Mapping[str, Array],
    tolerance: float,
) -> dict[str, str]:
    """Return the tensor of each layer that has one.

    Args:
        proto: the graph.
        values: the values of its tensors, for some images.
        layers: the value of each layer with channels last, for the same images.
        tolerance: the tolerance, relative to the largest value of each image.
    """
    by_shape: defaultdict[tuple[int, ...], list[Value]] = defaultdict(list)
    for value in _values(proto, values):
        by_shape[value.array.shape].append(value)
    found = {path: _best(path, a, by_shape[a.shape], tolerance) for path, a in layers.items()}
    return {path: name for path, name in found.items() if name is not None}


def _values(proto: onnx.ModelProto, values: Mapping[str, Array]) -> list[Value]:
    found = []
    for place, node in enumerate(proto.graph.node):
        rank = (int(node.op_type in VIEWS), place)
        for name in node.output:
            array = values.get(name)
            if array is not None and array.dtype.kind == "f" and array.ndim > 1:
                found += [Value(name, a, rank, node.name) for a in _ways(array)]
    return found


def _ways(array: Array) -> list[Array]:
    """Return the array as it is, and with its first channels moved last."""
    if array.ndim < 3:
        return [array]
    return [array, np.moveaxis(array, 1, -1)]


def _best(path: str, layer: Array, values: Sequence[Value], tolerance: float) -> str | None:
    """Return the tensor that equals a layer on an image for which its value is not constant.

    One image is enough, because the other may be outside the range for which the model was made.
    There, a clipped value has the rounding errors of a value that was a thousand times larger.
    """
    telling = np.flatnonzero([np.ptp(image) > 0 for image in layer])  # false for NaN
    size = largest(layer)
    few = _sample(layer.shape)  # a cheap first comparison, in which most tensors already differ
    close = [
        value
        for value in values
        if np.any(differences(value.array[few], layer[few], size)[telling] <= tolerance)
    ]
    apart = [differences(value.array, layer, size)[telling] for value in close]
    equal = [i for i, each in enumerate(apart) if np.any(each <= tolerance)]
    if not equal:
        return None
    least = min(apart[i].max() for i in equal)
    # Before a small bias is added, a tensor can be equal within the tolerance on an image with
    # large values, but not on all images.
    equal = [i for i in equal if apart[i].max() <= 3 * least + ROUNDING]
    own = path.rpartition("/")[2]
    ranked = sorted(
        (close[i] for i in equal), key=lambda v: (v.rank[0], own not in v.origin, v.rank[1])
    )
    return ranked[0].name


def _sample(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return an index of all images, and of a few positions on every other axis."""
    return slice(None), *(slice(None, None, max(1, size // 5)) for size in shape[1:])


def differences(found: Array, expected: Array, size: Array) -> Array:
    """Return the largest difference in each image, relative to a size for each image.

    The result is NaN if the size overflows, as it may in half precision, and infinity if only the
    found value does.
    """
    with np.errstate(invalid="ignore"):
        apart = largest(found.astype(np.float32) - expected.astype(np.float32))
    ratio: Array = apart / np.maximum(size, np.finfo(np.float32).tiny)
    ratio[np.isnan(ratio)] = np.inf
    ratio[~np.isfinite(size)] = np.nan
    return ratio


def largest(array: Array) -> Array:
    """Return the largest absolute value of each image."""
    result: Array = np.abs(array.reshape(len(array), -1)).max(axis=1, initial=0)
    return result
