"""The nodes of a transformer that run only on the tokens that are read behind them.

A classifier that reads its class token needs no other token behind the last attention, but XLA does
not move a slice in front of the products before it. Here each of these nodes runs on parts of its
inputs. All values keep their shapes: what nothing reads is padding, which XLA removes where a node
takes the part again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from onnxjax.graph import Graph, Step, Values

from xaimaps.graph import Graph as Described
from xaimaps.graph import Operation, Region

Array = Any

LARGEST = 0.5
"""The largest part that is worth its slices."""

PADDING = 1.0
"""What padding holds: its logarithm and reciprocal are finite, and so are their derivatives."""


def in_parts(
    described: Described,
    graph: Graph,
    wanted: Collection[str],
    is_exact: Callable[[Any, Operation], bool],
    is_separable: Callable[[Any], bool],
    step: Step,
) -> Step:
    """Return a step that runs nodes on the tokens that are read, where these are not all.

    Args:
        described: the network.
        graph: its nodes.
        wanted: the values that are read whole.
        is_exact: whether the flow of the operation of a node gives all that a part of its result
            depends on.
        is_separable: whether a node can run on arrays of other sizes.
        step: runs a node.
    """

    def is_opaque(operation: Operation) -> bool:
        node = graph.producers.get(operation.makes[0])  # None inside of a call that stays closed
        return node is None or not is_exact(node, operation)

    parts = _parts(described, wanted, is_opaque)

    def run(node: Any, values: Values) -> None:
        name, *others = node.outputs
        is_part = name in parts and is_separable(node) and not any(others)
        given = _given(described, node, parts[name], values) if is_part else None
        if given is None:
            step(node, values)
            return
        own = {**values, **given}
        step(node, own)
        values[name] = padded(own[name], parts[name])

    return run if parts else step


def _parts(
    described: Described, wanted: Collection[str], is_opaque: Callable[[Operation], bool]
) -> Mapping[str, Region]:
    """Return the values of which all that read them read the same few tokens, with these."""
    if not described.data.issuperset(wanted):
        return {}
    demands, made = described.demands_for(wanted, is_opaque), described.producers
    single: dict[str, Region] = {
        value: dict(next(iter(found)))
        for value, found in demands.items()
        if len(found) == 1 and value in made and not is_opaque(made[value])
    }
    return {
        value: region
        for value, region in single.items()
        if any(_has_tokens(described, value, axis) for axis in region)
        # the positions inside of a token's may be those of the images, whose number varies
        and all(one.inner == 1 for one in region.values())
        and math.prod((one.stop - one.start) / one.size for one in region.values()) <= LARGEST
    }


def _has_tokens(described: Described, value: str, axis: int) -> bool:
    return any(part.kind == "T" for part in described.axes[value][axis])


def _given(
    described: Described, node: Any, region: Region, values: Values
) -> dict[str, Array] | None:
    """Return the parts of a node's inputs that it needs for a part of its result, or None."""
    regions = described.inputs_for(described.producers[node.outputs[0]], region)
    if regions is None:
        return None
    found: dict[str, Region] = {}
    for name, own in zip(node.inputs, regions, strict=True):
        if found.setdefault(name, own) != own:  # as of a product of a value with itself
            return None
    return {name: taken(values[name], own) for name, own in found.items() if own}


def taken(value: Array, region: Region) -> Array:
    """Return a part of a value."""
    for axis, (start, stop, size, _) in region.items():
        before, after = value.shape[:axis], value.shape[axis + 1 :]
        tokens = value.reshape(*before, -1, size, *after)  # the axis may be of images and tokens
        part = tokens[(*(slice(None),) * (axis + 1), slice(start, stop))]
        value = part.reshape(*before, -1, *after)
    return value


def padded(part: Array, region: Region) -> Array:
    """Return a value of which a part is known."""
    value = jnp.asarray(part)
    for axis, (start, stop, size, _) in region.items():
        before, after = value.shape[:axis], value.shape[axis + 1 :]
        tokens = value.reshape(*before, -1, stop - start, *after)
        widths = [(0, 0, 0)] * tokens.ndim
        widths[axis + 1] = (start, size - stop, 0)
        whole = jax.lax.pad(tokens, jnp.asarray(PADDING, value.dtype), widths)
        value = whole.reshape(*before, -1, *after)
    return value
