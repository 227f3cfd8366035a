"""Finding the layers of a model in its graph: by their values, not by their names.

Names tell of four layers in ten to nearly all, depending on the network, and some of what they
tell is wrong. Equal values on random images are the proof that is wanted anyway.
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
"""Operators whose results say nothing new: the value before them is the layer."""


ROUNDING = 1e-6
"""What equal values may differ by in float32, over the largest."""


@dataclass(frozen=True)
class Value:
    """A tensor of the graph.

    Attributes:
        name: its name.
        array: what it is for the probe images, with the channels last where it had them first.
        rank: the smaller, the better it stands for a layer with this value.
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
    """The tensor of each layer that has one.

    Args:
        proto: the graph.
        values: its tensors, for some images.
        layers: the value of each layer with channels last, for the same images.
        tolerance: of the largest value of each image.
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
    """As it is, and with the channels last if they were first."""
    if array.ndim < 3:
        return [array]
    return [array, np.moveaxis(array, 1, -1)]


def _best(path: str, layer: Array, values: Sequence[Value], tolerance: float) -> str | None:
    """The tensor that equals a layer on an image where it says something.

    One image is enough, for another may lie outside of what the model was made for: there a
    clipped value keeps the rounding of what was a thousand times larger before.
    """
    telling = np.flatnonzero([np.ptp(image) > 0 for image in layer])  # nor is NaN
    size = largest(layer)
    few = _sample(layer.shape)  # most tensors differ from most layers at first sight
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
    # A factor without its summand is near enough where values are large, but not on all images.
    equal = [i for i in equal if apart[i].max() <= 3 * least + ROUNDING]
    own = path.rpartition("/")[2]
    ranked = sorted(
        (close[i] for i in equal), key=lambda v: (v.rank[0], own not in v.origin, v.rank[1])
    )
    return ranked[0].name


def _sample(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """All images, and a few places on every other axis."""
    return slice(None), *(slice(None, None, max(1, size // 5)) for size in shape[1:])


def differences(found: Array, expected: Array, size: Array) -> Array:
    """The largest difference in each image, relative to a size for each.

    NaN stands where the size overflows, as it may in half precision, and infinity where only
    what was found does.
    """
    with np.errstate(invalid="ignore"):
        apart = largest(found.astype(np.float32) - expected.astype(np.float32))
    ratio: Array = apart / np.maximum(size, np.finfo(np.float32).tiny)
    ratio[np.isnan(ratio)] = np.inf
    ratio[~np.isfinite(size)] = np.nan
    return ratio


def largest(array: Array) -> Array:
    """The largest value of each image, by its amount."""
    result: Array = np.abs(array.reshape(len(array), -1)).max(axis=1, initial=0)
    return result
