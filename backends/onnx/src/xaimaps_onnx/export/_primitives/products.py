"""Matrix products and convolutions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xaimaps_onnx.export._primitives.rows import NoRowError, primitive
from xaimaps_onnx.export._primitives.shapes import padded, reshaped, transposed
from xaimaps_onnx.export._traced import Recorder, Traced, ints


@primitive("dot_general")
def dot_general(write: Recorder, equation: Any, x: Any, y: Any) -> Any:
    """A product of stacks of matrices: the batch axes, the free ones, and the summed ones."""
    (x_summed, y_summed), (x_batch, y_batch) = equation.params["dimension_numbers"]
    x_free = _others(x, x_summed, x_batch)
    y_free = _others(y, y_summed, y_batch)
    x = transposed(write, x, (*x_batch, *x_free, *x_summed))
    y = transposed(write, y, (*y_batch, *y_summed, *y_free))
    lead = len(x_batch)
    is_plain = len(x_summed) == 1 and len(y_free) == 1 and (len(x_free) == 1 or not lead)
    if not is_plain:
        x = _matrices(write, x, lead, len(x_free))
        y = _matrices(write, y, lead, len(y_summed))
    return reshaped(write, write.emit("MatMul", [x, y]), equation.outvars[0].aval.shape)


def _others(x: Any, *taken: Any) -> list[int]:
    return [axis for axis in range(len(x.shape)) if axis not in {*sum(map(tuple, taken), ())}]


def _matrices(write: Recorder, x: Any, lead: int, rows: int) -> Any:
    """Join axes to a stack of matrices: `lead` axes of stacks, then `rows` axes, then the rest."""
    stacks, sizes = x.shape[:lead], (x.shape[lead : lead + rows], x.shape[lead + rows :])
    return reshaped(write, x, (*stacks, *map(math.prod, sizes)))


@primitive("conv_general_dilated")
def conv_general_dilated(write: Recorder, equation: Any, x: Any, w: Any) -> Any:
    """A convolution, or a transposed one if its input is dilated.

    ONNX Runtime has no fast transposed convolution of groups; their input is dilated with zeros.
    """
    p = equation.params
    if p["batch_group_count"] != 1:
        raise NoRowError("a convolution in groups of images is not written")
    lhs, rhs, out = p["dimension_numbers"]
    x, w = transposed(write, x, lhs), transposed(write, w, rhs)
    steps, groups, pads = p["lhs_dilation"], p["feature_group_count"], p["padding"]
    if max(steps) > 1 and groups == 1 and max(p["window_strides"]) == 1:
        y = _transposed_convolution(write, x, w, steps, p["rhs_dilation"], pads)
    else:
        y = _convolution(write, x, w, p)
    return transposed(write, y, np.argsort(out).tolist())


def _convolution(write: Recorder, x: Any, w: Any, p: Any) -> Traced:
    """Convolve; gaps between elements, and negative borders, are made before."""
    pads, steps = p["padding"], p["lhs_dilation"]
    edges = [
        (min(low, 0), min(high, 0), step - 1) for (low, high), step in zip(pads, steps, strict=True)
    ]
    x = padded(write, x, np.zeros((), x.dtype), [(0, 0, 0), (0, 0, 0), *edges])
    return write.emit(
        "Conv",
        [x, w],
        strides=list(p["window_strides"]),
        dilations=list(p["rhs_dilation"]),
        pads=[max(low, 0) for low, _ in pads] + [max(high, 0) for _, high in pads],
        group=p["feature_group_count"],
    )


def _transposed_convolution(
    write: Recorder, x: Any, w: Any, steps: Any, dilations: Any, pads: Any
) -> Traced:
    """Convolve x, with gaps between its elements, as the transpose of a convolution with steps.

    The transpose makes all that the kernel reaches; what lies outside of the result is cut off,
    and what it does not reach is 0.
    """
    spatial = range(2, len(w.shape))
    last, first = [-1] * len(spatial), [-w.shape[axis] - 1 for axis in spatial]
    flipped = write.emit("Slice", [w, ints(*last), ints(*first), ints(*spatial), ints(*last)])
    kernel = transposed(write, flipped, (1, 0, *spatial))
    whole = write.emit("ConvTranspose", [x, kernel], strides=list(steps), dilations=list(dilations))
    reach = [(w.shape[axis] - 1) * step for axis, step in zip(spatial, dilations, strict=True)]
    edges = [(low - far, high - far, 0) for (low, high), far in zip(pads, reach, strict=True)]
    return padded(write, whole, np.zeros((), x.dtype), [(0, 0, 0), (0, 0, 0), *edges])  # type: ignore[no-any-return]
