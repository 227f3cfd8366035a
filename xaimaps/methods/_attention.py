"""Steps that the methods for transformers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xaimaps.backend import Array, Backend, Blocks
from xaimaps.graph import Attention
from xaimaps.targets import Target


def matrices(xp: Any, attention: Attention, flat: Array) -> Array:
    """Return values or gradients `(..., N, values)` as `(..., N, heads, tokens, tokens)`."""
    tokens = attention.tokens
    return xp.reshape(flat, (*flat.shape[:-1], -1, tokens, tokens))


def grid_map(xp: Any, attention: Attention, rows: Array) -> Array:
    """Return the mean over the tokens that are read, of relevances of all tokens, as a map.

    Args:
        xp: the namespace.
        attention: the tokens.
        rows: the relevance of each token for each token, `(..., N, tokens, tokens)`.
    """
    start, stop = attention.read
    return on_grid(xp, attention, xp.mean(rows[..., start:stop, :], axis=-2))


def on_grid(xp: Any, attention: Attention, values: Array) -> Array:
    """Return values of the tokens `(..., N, tokens)` as maps `(..., N, rows, columns)`."""
    grid = attention.grid
    known = values[..., grid.start : grid.stop]
    if grid.is_by_column:
        turned = xp.reshape(known, (*known.shape[:-1], grid.columns, grid.rows))
        return xp.matrix_transpose(turned)
    return xp.reshape(known, (*known.shape[:-1], grid.rows, grid.columns))


def weight_gradients(backend: Backend, blocks: Blocks, target: Target) -> list[Array]:
    """Return the gradients of a target's scores by each attention matrix, as `matrices` does."""
    xp = backend.xp

    def scores(outputs: Array) -> tuple[Array, Array]:
        return target.scores(xp, outputs), outputs

    seeds = backend.differentiate(scores, blocks.outputs).gradients
    found = blocks.pull(None, seeds, tuple(range(len(blocks.weights))))
    return [matrices(xp, blocks.attention, one) for one in found]


def for_each_target(xp: Any, target: Target, explain: Callable[[Target], Array]) -> Array:
    """Return the maps of a target; those of K targets on a first axis."""
    if not target.is_several:
        return explain(target)
    return xp.stack([explain(one) for one in target.parts])


def positive(xp: Any, values: Array) -> Array:
    """Return the positive part of values."""
    return xp.maximum(values, xp.zeros_like(values))
