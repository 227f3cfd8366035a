"""What parts and joins again, without weights on the way, is one layer."""

import pytest
from xaimaps._layer_groups import Operation, joined


def network(*lines):
    """Operations from "c = a b", with "c := a b" for one that weighs."""
    operations = []
    for line in lines:
        makes, _, reads = line.replace(":=", "=").partition("=")
        names = (frozenset(makes.split()), frozenset(reads.split()))
        operations.append(Operation(names[1], names[0], ":=" in line))
    return joined(operations, ["x"])


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
