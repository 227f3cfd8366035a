"""Which operations of a graph are one layer."""

from __future__ import annotations

from xaimaps._layer_groups import Operation as Part
from xaimaps._layer_groups import joined

from xaimaps_tensorflow._graph import Operation, Tensor

Layer = tuple[Operation, ...]
"""Operations in the order of computation, the last of which makes the layer's value."""

CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})

WEIGHING = CALLS | frozenset(
    "Conv2D Conv3D DepthwiseConv2dNative Conv2DBackpropInput Conv3DBackpropInputV2 MatMul "
    "BatchMatMulV2 Einsum If StatelessIf While StatelessWhile".split()
)
"""Operations that are layers by themselves, whatever is around them."""


def smooth(images: Tensor) -> set[Operation]:
    """What depends on images as floats, and makes them: a mask is constant to first order."""
    found, left = set[Operation](), [images.op]
    while left:
        operation = left.pop()
        if operation not in found and _floats(operation):
            found.add(operation)
            left += [user for output in _floats(operation) for user in output.consumers()]
    return found


def inputs_of(layer: Layer, data: set[Operation]) -> list[Tensor]:
    """The floats of data that a layer reads and does not make itself, each once."""
    read = {x.ref(): x for one in layer for x in one.inputs if x.op not in layer}
    return [x for x in read.values() if x.op in data and x.dtype.is_floating]


def layers(operations: set[Operation], data: set[Operation]) -> list[Layer]:
    """The operations that make floats of floats, as layers in the order of computation.

    Args:
        operations: those that the scores depend on.
        data: those that depend on the images, see `smooth`.
    """
    graph = next(iter(data)).graph
    kept = operations & data
    making = [one for one in graph.get_operations() if one in kept and inputs_of((one,), data)]
    parts = [_part(one, data) for one in making]
    images = (
        frozenset[object]()
        .union(*(part.reads for part in parts))
        .difference(*(part.makes for part in parts))
    )
    return [tuple(making[place] for place in places) for places in joined(parts, images)]


def _part(operation: Operation, data: set[Operation]) -> Part:
    reads = frozenset(x.ref() for x in inputs_of((operation,), data))
    makes = frozenset(x.ref() for x in _floats(operation))
    return Part(reads, makes, operation.type in WEIGHING)


def _floats(operation: Operation) -> list[Tensor]:
    return [output for output in operation.outputs if output.dtype.is_floating]
