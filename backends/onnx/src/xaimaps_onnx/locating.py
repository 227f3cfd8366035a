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
    if not np.ptp(layer) > 0:  # a constant proves nothing, and NaN less
        return None
    equal = [value for value in values if is_close(value.array, layer, tolerance)]
    own = path.rpartition("/")[2]
    ranked = sorted(equal, key=lambda v: (v.rank[0], own not in v.origin, v.rank[1]))
    return ranked[0].name if ranked else None


def is_close(found: Array, expected: Array, tolerance: float) -> bool:
    """Whether two batches agree, image by image; a sample first, since most do not."""
    if found.shape != expected.shape:
        return False
    some = (slice(None), *(slice(None, None, 3) for _ in found.shape[1:]))
    return bool(
        difference(found[some], expected[some], expected) <= tolerance
        and difference(found, expected, expected) <= tolerance
    )


def difference(found: Array, expected: Array, whole: Array) -> float:
    """The largest difference of any image, relative to the largest value of the whole there.

    An image whose values overflow, as in half precision, does not count unless all do.
    """
    size = _largest(whole)
    usable = np.isfinite(size)
    if not usable.any():
        return float("inf")
    apart = _largest(found[usable].astype(np.float32) - expected[usable].astype(np.float32))
    ratio = apart / np.maximum(size[usable], np.finfo(np.float32).tiny)
    return float(np.nan_to_num(ratio, nan=np.inf).max())


def _largest(array: Array) -> Array:
    result: Array = np.abs(array.reshape(len(array), -1)).max(axis=1, initial=0)
    return result
