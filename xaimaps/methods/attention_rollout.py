"""Attention rollout: the product of a transformer's attention matrices."""

from __future__ import annotations

from typing import Any, Literal, get_args

from xaimaps.backend import Array, Backend
from xaimaps.methods._attention import grid_map, matrices
from xaimaps.methods._maps import Maps
from xaimaps.methods._options import check_choice
from xaimaps.methods._registry import method

Heads = Literal["mean", "max", "min"]


@method(
    family="attention",
    needs={"forward", "attention"},
    paper="Abnar, Zuidema 2020, arXiv:2005.00928",
    cost="1 F",
    uses_target=False,
)
def attention_rollout(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    heads: Heads = "mean",
    normalize: bool = True,
) -> Maps:
    r"""The product of the attention matrices of all blocks, the same for every target.

    With the attention $A_l$ of block $l$, one matrix for all heads:

    $$R = \hat A_L \cdots \hat A_1, \qquad
    \hat A_l = \mathrm{rows}\big(A_l + I\big)$$

    where each row is divided by its sum, and $I$ is the residual connection. The map is the row of
    the class token, or the mean of whichever rows the classifier reads, over the tokens of the
    image.

    Args:
        backend: the model, a transformer.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: not used.
        heads: how the heads become one matrix: their "mean", as in the paper, or each element's
            "max" or "min".
        normalize: whether rows are divided by their sums; False is the rollout that Chefer et al.
            compare with.

    Returns:
        Maps of shape `(N, rows, columns)` of the grid of tokens; shares of 1 if normalised.

    Raises:
        UnsupportedModelError: the model has no attention between the tokens of one grid; windows,
            as in Swin, have none.
        MethodError: `heads` is none of its choices.

    References:
        Abnar, Zuidema 2020, https://arxiv.org/abs/2005.00928

    Example:
        >>> import numpy as np, xaimaps
        >>> model = xaimaps.load("vit.onnx")
        >>> xaimaps.attribute(model, np.ones((1, 9, 9, 3)), "attention_rollout").maps.shape
        (1, 3, 3)
    """
    check_choice("heads", heads, get_args(Heads))
    xp, blocks = backend.xp, backend.blocks(images)
    attention = blocks.attention
    total = identity = xp.eye(attention.tokens, dtype=blocks.weights[0].dtype)
    for weights in blocks.weights:
        joined = getattr(xp, heads)(matrices(xp, attention, weights), axis=-3) + identity
        if normalize:
            joined = joined / xp.sum(joined, axis=-1, keepdims=True)
        total = xp.matmul(joined, total)
    return Maps(grid_map(xp, attention, total), blocks.outputs)
