"""Which operations of a graph are one layer.

A layer is one operation. But GELU or layer normalisation are ten, and FullGrad rescales each
layer's bias by itself, so that its map would depend on how a framework writes them. Hence what
parts and joins again, without weights on the way, is one layer.
"""

from __future__ import annotations

from collections.abc import Iterator

from xaimaps_tensorflow.graphs import Operation, Tensor

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


class Layers:
    """The operations that make floats of floats, as layers in the order of computation.

    Args:
        operations: those that the scores depend on.
        data: those that depend on the images, see `smooth`.
    """

    def __init__(self, operations: set[Operation], data: set[Operation]) -> None:
        graph = next(iter(data)).graph
        self._order = {one: place for place, one in enumerate(graph.get_operations())}
        self._data = data
        self._operations = {one for one in operations & data if inputs_of((one,), data)}

    def __iter__(self) -> Iterator[Layer]:
        found, left = list[Layer](), set(self._operations)
        for start in sorted(self._data, key=self._order.__getitem__):
            layer = self._rejoined(start) if self._users_of(start) <= left else ()
            left.difference_update(layer)
            found += [layer] if layer else []
        found += [(one,) for one in left]
        return iter(sorted(found, key=lambda layer: self._order[layer[-1]]))

    def _users_of(self, operation: Operation) -> set[Operation]:
        users = (user for output in _floats(operation) for user in output.consumers())
        return self._operations.intersection(users)

    def _rejoined(self, start: Operation) -> Layer:
        """The operations from where a value parts to where it joins; none if it does not.

        It does not if one on the way weighs, reads other data, or gives what nobody reads.
        """
        known, left = [start], self._users_of(start)
        if len(left) < 2:
            return ()
        while left:
            operation = min(left, key=self._order.__getitem__)
            read = inputs_of((operation,), self._data)
            if operation.type in WEIGHING or any(x.op not in known for x in read):
                return ()
            known.append(operation)
            left.remove(operation)
            if left:
                users = self._users_of(operation)
                if not users:
                    return ()
                left |= users
        return tuple(known[1:])


def _floats(operation: Operation) -> list[Tensor]:
    return [output for output in operation.outputs if output.dtype.is_floating]
