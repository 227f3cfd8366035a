"""Which operations compute convolutions on each platform, chosen by measurement.

On a CPU, XLA's own convolution is slow if a layer is depthwise or 1x1, if it has strides and few
products for each output, or if its windows do not overlap. In backward passes, XLA for CPU also
computes some values again for each operation that reads them (`memory.py`).

On a GPU, the gradient of a convolution at its inputs is slow where windows do not overlap: with
matrix products instead, saliency of a ViT-B/16 on an NVIDIA H200 takes 4.6 ms in place of 31.2 in
float32 (2.4 in place of 15.7 in tf32), and 60.6 in place of 137 for 32 images.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from onnxjax._jax import jax


@dataclass(frozen=True)
class Lowering:
    """How a platform computes feature maps; by default by XLA's own convolution in ONNX's order.

    Attributes:
        channels_last: channels are the last axis.
        disjoint: windows that do not overlap, as in patch embeddings, become matrix products.
        pointwise: 1x1 convolutions become matrix products.
        few_products: strided convolutions of at most this many products for each output become
            matrix products of windows.
        depthwise: depthwise convolutions become sums of shifted products.
        kept: the result of a convolution in a gradient, and the gradient of a sum of two paths, are
            computed once, and not again for each operation that reads them.
        plain_doubles: transposed convolutions of float64 have no groups and no dilation, of which
            cuDNN has no gradient.
    """

    channels_last: bool = False
    disjoint: bool = False
    pointwise: bool = False
    few_products: int = 0
    depthwise: bool = False
    kept: bool = False
    plain_doubles: bool = False


XLA = Lowering()
BY_PLATFORM = {
    "cpu": Lowering(
        channels_last=True,
        disjoint=True,
        pointwise=True,
        few_products=32,
        depthwise=True,
        kept=True,
    ),
    "gpu": Lowering(disjoint=True, plain_doubles=True),
}
"""The lowering of each platform that has been measured; others use XLA's own convolution."""

_FOR_OTHERS: ContextVar[bool] = ContextVar("for_others", default=False)


@contextmanager
def for_other_runtimes() -> Iterator[None]:
    """Trace ONNX's own operations in its own order, for another runtime than XLA here."""
    token = _FOR_OTHERS.set(True)
    try:
        yield
    finally:
        _FOR_OTHERS.reset(token)


def lowering() -> Lowering:
    """Return the lowering of the platform that JAX uses by default."""
    return XLA if _FOR_OTHERS.get() else BY_PLATFORM.get(jax.default_backend(), XLA)
