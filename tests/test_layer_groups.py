"""A fork-join region without weights is one layer."""

import pytest

from xaimaps.graph import Operation, layer_groups


def network(*lines):
    """Layers, by the positions of operations from "c = a b", with "c := a b" for a convolution."""
    operations = []
    for line in lines:
        makes, _, reads = line.replace(":=", "=").partition("=")
        kind = "conv" if ":=" in line else "other"
        operations.append(Operation(kind, kind, line, tuple(reads.split()), tuple(makes.split())))
    data = {"x"}.union(*(one.makes for one in operations))
    layers = layer_groups(operations, data)
    return tuple(tuple(map(operations.index, layer)) for layer in layers)


CASES = {
    "a chain": (["a = x", "b = a"], ((0,), (1,))),
    "gelu": (["e = x", "h = e", "y = x h"], ((0, 1, 2),)),
    "after a convolution": (["c := x", "s = c", "y = c s", "z = y"], ((0,), (1, 2), (3,))),
    "two in a row": (["s = x", "a = x s", "t = a", "b = a t"], ((0, 1), (2, 3))),
    "one within the other": (["s = x", "t = s", "u = s t", "y = x u"], ((0, 1, 2, 3),)),
    "weights on the way": (["c := x", "y = x c"], ((0,), (1,))),
    "gelu beside weights": (
        ["c := x", "s = x", "g = x s", "y = c g"],
        ((0,), (1,), (2,), (3,)),
    ),
    "other data joins": (["o = x", "p := o", "s = p", "y = p s o"], ((0,), (1,), (2,), (3,))),
    "an end that nobody reads": (["s = x", "e = s", "t = x s"], ((0,), (1,), (2,))),
    "the layer's value has two readers": (
        ["s = x", "g = x s", "a := g", "b := g"],
        ((0, 1), (2,), (3,)),
    ),
    "two values of one operation": (["l r = x", "s = r", "y = l s"], ((0,), (1, 2))),
    "a join of two values": (["s = x", "a b = x s", "y = a b"], ((0,), (1,), (2,))),
    "a join of two values, one read": (["s = x", "a b = x s", "y = a"], ((0, 1), (2,))),
    "nothing": ([], ()),
}


@pytest.mark.parametrize("case", CASES)
def test_layers(case):
    lines, layers = CASES[case]
    assert network(*lines) == layers
