"""The self-attention of a transformer, and the residual stream that its blocks write into."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xaimaps.errors import UnsupportedModelError
from xaimaps.graph._axes import Grid, grid_of, kind_of
from xaimaps.graph._flow import Broadcast
from xaimaps.graph._head import SAME, is_softmax, through
from xaimaps.graph._operation import Operation, Value

if TYPE_CHECKING:
    from xaimaps.graph._graph import Graph


@dataclass(frozen=True)
class Attention:
    """The attention matrices of a transformer over one grid of tokens.

    Attributes:
        weights: the matrix of each block in order, `(N, heads, tokens, tokens)`, or with the heads
            on the axis of the batch. A row has the weights of all tokens for one token.
        streams: the residual stream after each of these blocks, `(N, tokens, channels)`; empty if
            the blocks have no such stream.
        tokens: the number of tokens.
        grid: the tokens that are positions of the image.
        read: the first token that the rest of the network reads, and the one after the last.
    """

    weights: tuple[Value, ...]
    streams: tuple[Value, ...]
    tokens: int
    grid: Grid
    read: tuple[int, int]


def find_attention(graph: Graph) -> Attention:
    """Return the self-attention of a network.

    Raises:
        UnsupportedModelError: it has none over a grid of tokens, or others besides.
    """
    found = [one for one in graph.operations if _is_square(graph, one)]
    if not found:
        fused = next((one for one in graph.operations if one.kind == "attention"), None)
        reason = "the model has no attention matrix between the tokens of one grid"
        raise UnsupportedModelError(
            f"{reason}; use grad_cam"
            if fused is None
            else f"{reason}: {fused} computes it inside; export the model without fused attention"
        )
    sizes = {graph.shapes[one.makes[0]][-1] for one in found}
    grids = {grid_of(graph.axes[one.makes[0]][-1]) for one in found}
    if len(sizes) > 1 or len(grids) > 1:
        counts = " and ".join(str(size) for size in sorted(sizes))
        raise UnsupportedModelError(
            f"the attention matrices must be of the same tokens, got {counts} tokens; use grad_cam "
            "or attn_lrp"
        )
    weights = tuple(one.makes[0] for one in found)
    (tokens,), (grid,) = sizes, grids
    read = _rows_read(graph, weights[-1], tokens)
    return Attention(weights, _streams(graph, found), tokens, grid, read)


def _is_square(graph: Graph, operation: Operation) -> bool:
    """Return whether an operation makes the attention between the tokens of a grid.

    Raises:
        UnsupportedModelError: it makes the attention between other tokens.
    """
    axes = graph.axes.get(operation.makes[0], ())
    if len(axes) < 3 or not is_softmax(operation, graph.producers):
        return False
    query, key = axes[-2:]
    if kind_of(key) in ("T", "S") and query == key and _axis(graph, operation) == len(axes) - 1:
        return True
    if kind_of(key) in ("T", "S", "?") and kind_of(query) != "C":
        raise UnsupportedModelError(
            f"the attention of {operation} must be between all tokens of one grid, got one within "
            "windows or between different tokens; use grad_cam or attn_lrp"
        )
    return False


def _axis(graph: Graph, operation: Operation) -> int | None:
    """Return the axis along which a softmax sums to 1."""
    rank = len(graph.shapes[operation.makes[0]])
    if isinstance(operation.flow, Broadcast) and operation.flow.mixes:
        (axis,) = operation.flow.mixes
        return axis % rank
    total = graph.producers[through(operation.reads[1], graph.producers, SAME | {"expand"})]
    return next(iter(total.sums or ()), None)


def _rows_read(graph: Graph, weights: Value, tokens: int) -> tuple[int, int]:
    """Return the rows of the last attention matrix that the output depends on."""
    axis = len(graph.shapes[weights]) - 2
    taken = [dict(demand).get(axis) for demand in graph.demands[weights]]
    spans = [(0, tokens) if one is None or one.inner > 1 else one[:2] for one in taken]
    return min(start for start, _ in spans), max(stop for _, stop in spans)


def _streams(graph: Graph, attention: Sequence[Operation]) -> tuple[Value, ...]:
    """Return the last residual sum after each attention and before the next."""
    order = {operation: index for index, operation in enumerate(graph.operations)}
    ends = [*(order[one] for one in attention[1:]), len(order)]
    sums = list(_residual_sums(graph))
    found = []
    for one, end in zip(attention, ends, strict=True):
        between = [value for index, value in sums if order[one] < index < end]
        found += between[-1:]
    return tuple(found) if len(found) == len(attention) else ()


def _residual_sums(graph: Graph) -> Iterator[tuple[int, Value]]:
    """Yield the sums of the residual stream, each with the position of its operation.

    All that follows depends on the image through such a sum alone, and so it did before one of its
    terms.
    """
    alone = {value: index for index, value in _bottlenecks(graph)}
    for value, index in alone.items():
        operation = graph.operations[index]
        if operation.kind != "sum" or not graph.data.issuperset(operation.reads):
            continue
        # a mean that is subtracted may be expanded first
        terms = [through(one, graph.producers, frozenset({"expand"})) for one in operation.reads]
        shapes = {graph.shapes.get(one) for one in terms}
        skips = (through(one, graph.producers, SAME) for one in operation.reads)
        if shapes == {graph.shapes[value]} and any(one in alone for one in (*terms, *skips)):
            yield index, value


def _bottlenecks(graph: Graph) -> Iterator[tuple[int, Value]]:
    """Yield the values through which alone the output depends on the images."""
    last = {value: i for i, one in enumerate(graph.operations) for value in one.needs}
    live = {graph.images}
    for index, one in enumerate(graph.operations):
        live.update(value for value in one.makes if value in graph.data)
        live = {value for value in live if last.get(value, -1) > index}
        if len(live) == 1 and live.issubset(one.makes) and live.issubset(graph.shapes):
            yield index, next(iter(live))
