"""LeGrad: the gradients of each block's own score by its attention."""

from __future__ import annotations

from typing import Any, Literal, get_args

from xaimaps.backend import Array, Backend, Blocks
from xaimaps.errors import UnsupportedModelError
from xaimaps.methods._attention import for_each_target, matrices, on_grid, positive
from xaimaps.methods._maps import Maps
from xaimaps.methods._options import check_choice
from xaimaps.methods._registry import method
from xaimaps.targets import Target, as_target

Pooling = Literal["model", "mean"]


@method(
    family="attention",
    needs={"forward", "grad", "attention"},
    paper="Bousselham et al. 2024, arXiv:2404.03214",
    cost="1 F + 1 b for each block; b is the block and the head",
)
def legrad(
    backend: Backend, images: Array, target: Any = None, *, pooling: Pooling = "model"
) -> Maps:
    r"""The positive gradients of each block's own score by its attention, averaged over blocks.

    The score $s_l$ of block $l$ is what the head of the network makes of the tokens after that
    block. With the attention $A_{lh}$ of its heads and all rows $i$:

    $$M_j = \frac{1}{L} \sum_l \frac{1}{HT} \sum_{h,i}
    \Big(\frac{\partial s_l}{\partial A_{lh}}\Big)^+_{ij}$$

    The paper scales the map to 0..1 in the end.

    Args:
        backend: the model, a transformer.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain, decided on the network's own outputs; see
            `xaimaps.targets.as_target`.
        pooling: how tokens become the vector that the head reads: "model", as in the network, such
            as its class token, or the "mean" of all tokens in the place of each, as the authors'
            code for CLIP does. The maps of a network with a class token differ much.

    Returns:
        Maps of shape `(N, rows, columns)` of the grid of tokens, not negative, in units of the
        score.

    Raises:
        UnsupportedModelError: the model has no attention between the tokens of one grid; windows,
            as in Swin, have none.
            Or its blocks do not add to one residual stream.
        MethodError: `pooling` is none of its choices.

    References:
        Bousselham et al. 2024, https://arxiv.org/abs/2404.03214

    Example:
        >>> import numpy as np, xaimaps
        >>> model = xaimaps.load("vit.onnx")
        >>> xaimaps.attribute(model, np.ones((1, 9, 9, 3)), "legrad").maps.shape
        (1, 3, 3)
    """
    check_choice("pooling", pooling, get_args(Pooling))
    xp, blocks = backend.xp, backend.blocks(images)
    if not blocks.streams:
        raise UnsupportedModelError(
            "legrad needs a transformer whose blocks add to one stream of tokens, but no such sum "
            "follows each attention here; use chefer"
        )
    goal = as_target(target, images.shape[0], backend.info.labels).frozen(xp, blocks.outputs)
    maps = for_each_target(xp, goal, lambda one: _mean(backend, blocks, one, pooling))
    return Maps(maps, blocks.outputs)


def _mean(backend: Backend, blocks: Blocks, target: Target, pooling: Pooling) -> Array:
    """Return the mean over the blocks."""
    xp, every = backend.xp, range(len(blocks.weights))
    parts = [_of_block(backend, blocks, index, target, pooling) for index in every]
    return on_grid(xp, blocks.attention, xp.mean(xp.stack(parts), axis=0))


def _of_block(
    backend: Backend, blocks: Blocks, index: int, target: Target, pooling: Pooling
) -> Array:
    """Return the relevance of each token to the score of one block, `(N, tokens)`."""
    xp = backend.xp

    def scores(stream: Array) -> tuple[Array, Array]:
        pooled = _pooled(xp, blocks, stream) if pooling == "mean" else stream
        outputs = blocks.resume(pooled)
        return target.scores(xp, outputs), outputs

    seeds = backend.differentiate(scores, blocks.streams[index]).gradients
    (flat,) = blocks.pull(index, seeds, (index,))
    gradients = matrices(xp, blocks.attention, flat)
    return xp.mean(positive(xp, gradients), axis=(-3, -2))


def _pooled(xp: Any, blocks: Blocks, stream: Array) -> Array:
    """Return a stream in which each token is the mean of all."""
    tokens = xp.reshape(stream, (stream.shape[0], blocks.attention.tokens, -1))
    mean = xp.mean(tokens, axis=1, keepdims=True)
    return xp.reshape(mean + xp.zeros_like(tokens), stream.shape)
