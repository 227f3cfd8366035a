"""Grad-SAM: attention times its positive gradients, over all blocks."""

from __future__ import annotations

from typing import Any, Literal, get_args

from xaimaps.backend import Array, Backend, Blocks
from xaimaps.methods._attention import (
    for_each_target,
    grid_map,
    matrices,
    positive,
    weight_gradients,
)
from xaimaps.methods._maps import Maps
from xaimaps.methods._options import check_choice
from xaimaps.methods._registry import method
from xaimaps.targets import Target, as_target

Which = Literal["all", "last"]


@method(
    family="attention",
    needs={"forward", "grad", "attention"},
    paper="Barkan et al. 2021, arXiv:2204.11073",
    cost="1 F + 1 B",
)
def grad_sam(backend: Backend, images: Array, target: Any = None, *, blocks: Which = "all") -> Maps:
    r"""Attention times its positive gradients, averaged over the blocks of a transformer.

    With the attention $A_{lh}$ of head $h$ in block $l$:

    $$M = \frac{1}{LH} \sum_{l,h} A_{lh} \odot
    \Big(\frac{\partial y}{\partial A_{lh}}\Big)^+$$

    The map is the row of the class token, or the mean of whichever rows the classifier reads, over
    the tokens of the image.

    Args:
        backend: the model, a transformer.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.
        blocks: "all", as in the paper, or the "last" one alone. In earlier blocks of a network with
            a class token, that token has read little of the image.

    Returns:
        Maps of shape `(N, rows, columns)` of the grid of tokens, not negative, in units of the
        score.

    Raises:
        UnsupportedModelError: the model has no attention between the tokens of one grid; windows,
            as in Swin, have none.
        MethodError: `blocks` is none of its choices.

    References:
        Barkan et al. 2021, https://arxiv.org/abs/2204.11073

    Example:
        >>> import numpy as np, xaimaps
        >>> model = xaimaps.load("vit.onnx")
        >>> xaimaps.attribute(model, np.ones((1, 9, 9, 3)), "grad_sam").maps.shape
        (1, 3, 3)
    """
    check_choice("blocks", blocks, get_args(Which))
    xp, run = backend.xp, backend.blocks(images)
    goal = as_target(target, images.shape[0], backend.info.labels).frozen(xp, run.outputs)
    count = len(run.weights) if blocks == "all" else 1
    maps = for_each_target(xp, goal, lambda one: _mean(backend, run, one, count))
    return Maps(maps, run.outputs)


def _mean(backend: Backend, run: Blocks, target: Target, count: int) -> Array:
    """Return the mean over the last `count` blocks."""
    xp = backend.xp
    gradients = weight_gradients(backend, run, target)
    parts = [
        xp.mean(matrices(xp, run.attention, weights) * positive(xp, gradient), axis=-3)
        for weights, gradient in list(zip(run.weights, gradients, strict=True))[-count:]
    ]
    return grid_map(xp, run.attention, xp.mean(xp.stack(parts), axis=0))
