"""The shapes of a file's values for a batch whose size can be seen in them."""

from __future__ import annotations

from collections.abc import Mapping

from xaimaps.graph import Shape
from xaimaps_onnx.analysis import OnnxNetwork

BATCHES = (113, 109, 107, 103, 101, 97, 89)
"""Batch sizes to choose from: primes, so that they divide the size of an axis only if it is made of
the batch."""


def free_batch(network: OnnxNetwork) -> int | None:
    """Return a batch size that divides no other size, or None if the batch is fixed."""
    if network.fixed_batch is not None:
        return None
    sizes = {size for shape in network.usual.shapes.values() for size in shape}
    return next(one for one in BATCHES if all(size % one for size in sizes if size))


def shapes_of(network: OnnxNetwork, batch: int | None) -> Mapping[str, Shape]:
    """Return the shapes of the values for a batch size.

    Every size grows by the same number with each image, so that two batches show it.
    """
    usual = network.usual.shapes
    if batch is None:
        return usual
    before = usual[network.input.name][0]
    more = network._traced(before + 1, network.usual_shape[:-1]).shapes

    def size(one: int, other: int) -> int:
        return one + (other - one) * (batch - before)

    return {name: tuple(map(size, shape, more.get(name, shape))) for name, shape in usual.items()}
