"""The forms of operators below opset 7, in which attributes request broadcasting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from onnxjax._ops import activation, elementwise, linear, slicing
from onnxjax._ops.common import to_int
from onnxjax._ops.shape import reshape, tile
from onnxjax.registry import RuleFunction, find_rule, op

Array = Any

BROADCASTING = ("Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor")


def _aligned(rule: RuleFunction) -> RuleFunction:
    """Return the rule with its second input aligned to the first from `axis` on."""

    def old(xp: Any, a: Array, b: Array, *, axis: int | None = None, broadcast: int = 0) -> Array:
        if broadcast and axis is not None and b.ndim:
            axis = axis + a.ndim if axis < 0 else axis
            b = xp.reshape(b, (*b.shape, *(1,) * (a.ndim - axis - b.ndim)))
        return rule(xp, a, b)

    return old


for _name in BROADCASTING:
    _rule = find_rule("", _name, 7)
    assert _rule is not None, "elementwise registers it"
    op(_name, bounded=True)(_aligned(_rule.fn))


@op("PRelu")
def prelu_1(xp: Any, x: Array, slope: Array) -> Array:
    """Apply one slope, or one slope for each channel."""
    if slope.size > 1:
        slope = xp.reshape(slope, (-1, *(1,) * (x.ndim - 2)))
    return activation.prelu(xp, x, slope)


@op("Gemm")
def gemm_1(
    xp: Any,
    a: Array,
    b: Array,
    c: Array,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    broadcast: int = 0,
    transA: int = 0,
    transB: int = 0,
) -> Array:
    """Compute `gemm`, which always broadcasts C; the attribute `broadcast` has no effect."""
    return linear.gemm(xp, a, b, c, alpha=alpha, beta=beta, transA=transA, transB=transB)


@op("Selu")
def selu_1(
    xp: Any, x: Array, *, alpha: float = 1.673200011253357, gamma: float = 1.0506999492645264
) -> Array:
    """Compute `selu` with constants of four digits as defaults."""
    return activation.selu(xp, x, alpha=alpha, gamma=gamma)


@op("Cast")
def cast_1(xp: Any, x: Array, *, to: str | int) -> Array:
    """Convert to a type that is given by its name."""
    number = onnx.TensorProto.DataType.Value(to) if isinstance(to, str) else to
    return elementwise.cast_(xp, x, to=number)


@op("Reshape")
def reshape_1(xp: Any, x: Array, *, shape: Sequence[int]) -> Array:
    """Reshape, with the shape as an attribute."""
    return reshape(xp, x, shape)


@op("Pad")
def pad_1(
    xp: Any, x: Array, *, paddings: Sequence[int], mode: str = "constant", value: float = 0.0
) -> Array:
    """Pad, with the borders in the attribute `paddings`."""
    return slicing.pad_2(xp, x, pads=paddings, mode=mode, value=value)


@op("Tile", static=[1, 2])
def tile_1(xp: Any, x: Array, tiles: Array, axis: Array) -> Array:
    """Repeat along one axis."""
    counts = np.ones(x.ndim, np.int64)
    counts[to_int(axis)] = to_int(tiles)
    return tile(xp, x, counts)


@op("Dropout")
def dropout_1(
    xp: Any, x: Array, *, is_test: int = 0, ratio: float = 0.5, n_outputs: int
) -> tuple[Array, ...]:
    """Return the input, because an explained graph is not in training."""
    return elementwise.dropout(xp, x, n_outputs=n_outputs)
