"""Owen values of rectangles: Shapley values that follow a tree of halves of the image."""

from __future__ import annotations

from typing import Any

import numpy as np

from xaimaps.backend import Array, Backend
from xaimaps.methods._baselines import Baseline
from xaimaps.methods._coalitions import efficient_maps, play, weighted_scores
from xaimaps.methods._maps import Maps
from xaimaps.methods._masking import default_filling
from xaimaps.methods._noise import Floats
from xaimaps.methods._options import check_count
from xaimaps.methods._registry import method
from xaimaps.methods._segments import Ints

Tree = int | tuple["Tree", "Tree"]
"""A leaf's number, or two halves."""

DEEPEST = 8
"""Every level takes four times as many passes; this one takes 43692."""


def plan_halves(shape: tuple[int, ...], *, depth: int = 6, **_: Any) -> dict[str, Any]:
    """Halve the image, and list the coalitions with the weight of each score in each value.

    Raises:
        MethodError: `depth` is out of range, or the image has one pixel.
    """
    check_count("depth", depth, most=DEEPEST)
    labels = np.zeros(shape[:-1], np.int32)
    tree, count = _halved(labels, depth, 0)
    coalitions, weights = expand(tree, count)
    return {"labels": labels, "coalitions": coalitions, "weights": weights}


def _halved(block: Ints, depth: int, first: int) -> tuple[Tree, int]:
    """Number the leaves of a block in place, from `first`; return its tree and the next number."""
    if not depth or block.size == 1:
        block[...] = first
        return first, first + 1
    axis = int(np.argmax(block.shape))  # rows first, if they are as many as the columns
    low, high = np.split(block, [block.shape[axis] // 2], axis)
    left, following = _halved(low, depth - 1, first)
    right, following = _halved(high, depth - 1, following)
    return (left, right), following


def expand(tree: Tree, count: int) -> tuple[Floats, Floats]:
    """Return the coalitions of a tree's leaves, and the weights of their scores, `(V, count)`.

    The first two coalitions are none and all.
    """
    rows, weights = [np.zeros(count), np.ones(count)], [np.zeros(count), np.zeros(count)]

    def score(without: int, part: Tree) -> int:
        row = rows[without].copy()
        row[_leaves(part)] = 1
        rows.append(row)
        weights.append(np.zeros(count))
        return len(rows) - 1

    def visit(part: Tree, without: int, with_: int, weight: float) -> None:
        if isinstance(part, int):
            weights[with_][part] += weight
            weights[without][part] -= weight
            return
        alone = [score(without, half) for half in part]
        for half, own, other in zip(part, alone, alone[::-1], strict=True):
            visit(half, without, own, weight / 2)
            visit(half, other, with_, weight / 2)

    visit(tree, 0, 1, 1.0)
    return np.array(rows, np.float32), np.array(weights, np.float32)


def _leaves(part: Tree) -> list[int]:
    return [part] if isinstance(part, int) else [*_leaves(part[0]), *_leaves(part[1])]


@method(
    family="perturbation",
    needs={"forward"},
    paper="Owen 1977; Lundberg et al., SHAP's PartitionExplainer",
    cost="1 F + 2732 F",
    draws=plan_halves,
    defaults=lambda backend: {"baseline": default_filling(backend)},
)
def owen(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    depth: int = 6,
    baseline: Baseline = None,
    probability: bool = False,
    memory: float | None = None,
    **drawn: Array,
) -> Maps:
    r"""The exact Owen values of rectangles, from a tree that halves the image again and again.

    The image is halved along its longer side, then each half, to a depth of D. A rectangle R at the
    end has a sibling at each level; with $S$ the unions of some of them, each with the weight
    $2^{-D}$:

    $$\phi_R = 2^{-D} \sum_{S} \big(y(S \cup R) - y(S)\big)$$

    These are SHAP's values for images (PartitionExplainer), where it has expanded all of this tree;
    it expands the halves with large effects first, and stops after `max_evals` passes. The values
    sum to the difference of the scores of the image and the baseline:
    `details["completeness_delta"]` is the error, from rounding. There are no random numbers.

    Args:
        backend: the model; only forward passes are needed.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain, resolved on the clean images; see `xaimaps.targets.as_target`.
        depth: the number D of levels, at most 8: 2^D rectangles, about (2/3) 4^D passes.
        baseline: the pixels of absent rectangles, as in `occlusion`; None is gray, or zeros if the
            model's preprocessing is unknown.
        probability: y is the probability of a class instead of its score.
        memory: limit for the values of one pass, in MB; None follows the device.
        drawn: `labels` `(H, W)`, and `coalitions` and `weights` `(V, M)`; without, from `depth`.

    Returns:
        Signed maps of shape `(N, H, W)`, in units of the score: at each pixel the value of its
        rectangle. `details["values"]` has those of the rectangles, `(N, M)`.

    Raises:
        MethodError: there is no such baseline, or an option is out of range.

    References:
        Owen 1977, https://doi.org/10.1007/978-3-642-45494-3_7;
        Lundberg, Lee 2017, https://arxiv.org/abs/1705.07874

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import owen
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> owen(backend, images, 0, depth=3).details["values"].shape
        (1, 8)
    """
    drawn = drawn or plan_halves(images.shape[1:], depth=depth)
    game = play(backend, images, target, drawn, baseline, probability, memory)
    values = weighted_scores(backend, drawn["weights"], game.scores)
    return efficient_maps(backend, game, values, drawn["labels"], game.scores[0, ...])
