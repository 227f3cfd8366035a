"""The relevance of tokens by Chefer, Gur and Wolf, from attention and its gradients."""

from __future__ import annotations

from typing import Any

from xaimaps.backend import Array, Backend, Blocks
from xaimaps.methods._attention import (
    for_each_target,
    grid_map,
    matrices,
    positive,
    weight_gradients,
)
from xaimaps.methods._maps import Maps
from xaimaps.methods._registry import method
from xaimaps.targets import Target, as_target


@method(
    family="attention",
    needs={"forward", "grad", "attention"},
    paper="Chefer, Gur, Wolf 2021, arXiv:2103.15679",
    cost="1 F + 1 B",
)
def chefer(backend: Backend, images: Array, target: Any = None) -> Maps:
    r"""Attention times its positive gradients, accumulated over the blocks of a transformer.

    With the attention $A_l$ of block $l$ and the mean $E_h$ over its heads:

    $$R_l = R_{l-1} + E_h\Big[\Big(A_l \odot \frac{\partial y}{\partial A_l}\Big)^+\Big]\, R_{l-1},
    \qquad R_0 = I$$

    The map is the row of the class token in $R_L - I$, or the mean of whichever rows the classifier
    reads, over the tokens of the image. This is the rule for self-attention of "generic attention
    explainability", which the authors prefer to their earlier one with relevance propagation.

    Args:
        backend: the model, a transformer.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.

    Returns:
        Maps of shape `(N, rows, columns)` of the grid of tokens, not negative.

    Raises:
        UnsupportedModelError: the model has no attention between the tokens of one grid; windows,
            as in Swin, have none.

    References:
        Chefer, Gur, Wolf 2021, https://arxiv.org/abs/2103.15679

    Example:
        >>> import numpy as np, xaimaps
        >>> model = xaimaps.load("vit.onnx")
        >>> xaimaps.attribute(model, np.ones((1, 9, 9, 3)), "chefer").maps.shape
        (1, 3, 3)
    """
    xp, blocks = backend.xp, backend.blocks(images)
    goal = as_target(target, images.shape[0], backend.info.labels).frozen(xp, blocks.outputs)
    maps = for_each_target(xp, goal, lambda one: _relevance(backend, blocks, one))
    return Maps(maps, blocks.outputs)


def _relevance(backend: Backend, blocks: Blocks, target: Target) -> Array:
    xp, attention = backend.xp, blocks.attention
    total = identity = xp.eye(attention.tokens, dtype=blocks.weights[0].dtype)
    gradients = weight_gradients(backend, blocks, target)
    for weights, gradient in zip(blocks.weights, gradients, strict=True):
        product = positive(xp, matrices(xp, attention, weights) * gradient)
        total = total + xp.matmul(xp.mean(product, axis=-3), total)
    return grid_map(xp, attention, total - identity)
