"""The arithmetic that convolutions and poolings share: pads, strides and dilations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Array = Any
Pads = list[tuple[int, int]]


def spatial_rank(x: Array) -> int:
    """The number of axes behind batch and channels."""
    return len(x.shape) - 2


def window_pads(
    auto_pad: str,
    pads: Sequence[int] | None,
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> Pads:
    """How much to pad before and after each spatial axis, as ONNX's `auto_pad` says."""
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        return [
            _same(size, (k - 1) * d + 1, s, upper=auto_pad == "SAME_UPPER")
            for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)
        ]
    if auto_pad == "VALID" or not pads:
        return [(0, 0)] * len(sizes)
    return list(zip(pads[: len(sizes)], pads[len(sizes) :], strict=True))


def _same(size: int, extent: int, stride: int, *, upper: bool) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + extent - size, 0)
    small, large = total // 2, total - total // 2
    return (small, large) if upper else (large, small)
