"""The weights of each layer of a network."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from xaimaps.graph._layer_groups import WEIGHING
from xaimaps.graph._operation import Operation, Value


def layer_weights(
    operations: Sequence[Operation], data: AbstractSet[Value]
) -> dict[Value, tuple[Value, ...]]:
    """Return the weights of each layer, by the layer's value in the order of computation.

    A layer begins at an operation with a matrix or kernel of weights, and has the weights that are
    read until the next one: its bias, its normalisation. What is read before the first, as the
    mean of the images, is of no layer.

    Args:
        operations: those that the output depends on, in the order of computation.
        data: the values that depend on the images.
    """
    made_of: dict[Value, tuple[Value, ...]] = {}
    layers: dict[Value, tuple[Value, ...]] = {}
    taken = set[Value]()
    for one in operations:
        read = [leaf for v in one.needs if v not in data for leaf in made_of.get(v, (v,))]
        own = tuple(dict.fromkeys(leaf for leaf in read if leaf not in taken))
        if data.isdisjoint(one.makes) and one.needs:
            made_of.update(dict.fromkeys(one.makes, tuple(dict.fromkeys(read))))
        elif own and (layers or one.kind in WEIGHING):
            layer = one.makes[0] if one.kind in WEIGHING else next(reversed(layers))
            layers[layer] = (*layers.get(layer, ()), *own)
            taken.update(own)
    return layers
