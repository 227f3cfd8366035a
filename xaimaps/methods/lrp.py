"""Layer-wise relevance propagation, excitation backpropagation and AttnLRP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from xaimaps._arithmetic import divided
from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._maps import Maps, Reduce, reduce_channels
from xaimaps.methods._options import check_choice
from xaimaps.methods._registry import method
from xaimaps.propagation import AlphaBeta, Box, Epsilon, Flat, Gamma, Pass, Rules, Weighted, WSquare
from xaimaps.targets import as_target

Composite = Literal[
    "epsilon_plus",
    "epsilon_plus_flat",
    "epsilon_plus_w_square",
    "epsilon_alpha2_beta1",
    "epsilon_alpha2_beta1_flat",
    "epsilon_gamma_box",
    "epsilon",
    "gamma",
    "z_plus",
    "alpha2_beta1",
]

Start = Literal["one", "score"]

Z_PLUS = AlphaBeta(alpha=1.0, beta=0.0)


@dataclass(frozen=True)
class Numbers:
    """The numbers of the rules, as the options of `lrp` of these names."""

    epsilon: float
    gamma: float
    low: float | None
    high: float | None

    def box(self) -> Box:
        """Return the rule for data between two bounds.

        Raises:
            MethodError: a bound is not known, or the bounds are in the wrong order.
        """
        if self.low is None or self.high is None:
            raise MethodError(
                "`low` and `high` must be the least and greatest value of an input of the model, "
                "got None, and the model's preprocessing is not known; give both"
            )
        if not self.low < self.high:
            raise MethodError(f"`low` must be below `high`, got {self.low} and {self.high}")
        return Box(self.low, self.high)


COMPOSITES: Mapping[Composite, Callable[[Numbers], dict[str, Any]]] = {
    "epsilon_plus": lambda n: {"conv": Z_PLUS, "dense": Epsilon(n.epsilon)},
    "epsilon_plus_flat": lambda n: {"conv": Z_PLUS, "dense": Epsilon(n.epsilon), "first": Flat()},
    "epsilon_plus_w_square": lambda n: {
        "conv": Z_PLUS,
        "dense": Epsilon(n.epsilon),
        "first": WSquare(),
    },
    "epsilon_alpha2_beta1": lambda n: {"conv": AlphaBeta(), "dense": Epsilon(n.epsilon)},
    "epsilon_alpha2_beta1_flat": lambda n: {
        "conv": AlphaBeta(),
        "dense": Epsilon(n.epsilon),
        "first": Flat(),
    },
    "epsilon_gamma_box": lambda n: {
        "conv": Gamma(n.gamma),
        "dense": Epsilon(n.epsilon),
        "first": n.box(),
    },
    "epsilon": lambda n: {"conv": Epsilon(n.epsilon), "dense": Epsilon(n.epsilon)},
    "gamma": lambda n: {"conv": Gamma(n.gamma), "dense": Gamma(n.gamma)},
    "z_plus": lambda n: {"conv": Z_PLUS, "dense": Z_PLUS},
    "alpha2_beta1": lambda n: {"conv": AlphaBeta(), "dense": AlphaBeta()},
}
"""The rules for convolutions, for other layers with weights, and for those that read the images."""


def _bounds(backend: Backend) -> dict[str, object]:
    """Return the least and greatest value that the model's preprocessing makes of a pixel."""
    preprocess = backend.info.pixels
    if preprocess is None or preprocess.native:
        return {}
    channels = backend.input_shape[-1] or 3
    ends = preprocess.values(np.stack([np.zeros(channels), np.full(channels, 255.0)]))
    return {"low": float(ends.min()), "high": float(ends.max())}


@method(
    family="gradient",
    needs={"forward", "grad", "rules"},
    paper="Bach et al. 2015, doi:10.1371/journal.pone.0130140",
    cost="4 F + 3 B",
    defaults=_bounds,
)
def lrp(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    composite: Composite = "epsilon_plus",
    epsilon: float = 1e-6,
    gamma: float = 0.25,
    low: float | None = None,
    high: float | None = None,
    fold: bool = True,
    start: Start = "one",
    reduce: Reduce = "sum",
) -> Maps:
    r"""Relevance that is passed back from the score, layer by layer, in proportion to the parts.

    With the rule of a layer $z = W x + b$, for example the epsilon rule:

    $$R_i = \sum_j \frac{x_i W_{ji}}{z_j + \epsilon\,\mathrm{sign}(z_j)} R_j$$

    A composite has one rule for convolutions, one for other layers with weights, and some have one
    for the layers that read the images. The names are zennit's. The z-plus rule passes relevance to
    positive parts only, alpha-beta to positive and negative parts separately, gamma gives more
    weight to those of the sign of z. Functions of single elements pass it unchanged, a product of
    two values gives half to each, and a normalisation divides by a constant.

    Biases keep a part of the relevance, and so does batch normalisation: the sum of a map may be
    far from the relevance at the start. `details["sum"]` has it.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.
        composite: the rules for convolutions, dense layers and the first layer.
        epsilon: the stabiliser of the epsilon rule; 0 for LRP-0.
        gamma: the additional weight of parts of the sign of z.
        low: the least value of the model's input, for "epsilon_gamma_box"; None for that of its
            preprocessing.
        high: the greatest value.
        fold: whether batch normalisation after a layer is a part of its weights and bias; False
            passes relevance through it unchanged.
        start: the relevance of the score: "one", or "score" for the score itself.
        reduce: "sum" (keeps the total), "max" or "mean" over the channels; None keeps them.

    Returns:
        Signed maps of shape `(N, H, W)`, in shares of the score; in units of the score for
        `start="score"`.

    Raises:
        UnsupportedModelError: an operation of the model has no rule.
        MethodError: a bound is missing, or an option is none of its choices.

    References:
        Bach et al. 2015, https://doi.org/10.1371/journal.pone.0130140;
        Montavon et al. 2019, https://doi.org/10.1007/978-3-030-28954-6_10

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import lrp
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> lrp(backend, images, 0).maps.shape
        (1, 9, 9)
    """
    if epsilon < 0 or gamma < 0:
        raise MethodError(f"`epsilon` and `gamma` must be 0 or more, got {epsilon} and {gamma}")
    check_choice("composite", composite, COMPOSITES)
    found = COMPOSITES[composite](Numbers(epsilon, gamma, low, high))
    return _propagated(backend, images, target, _rules(**found, folds=fold), start, reduce)


@method(
    family="gradient",
    needs={"forward", "grad", "rules"},
    paper="Zhang et al. 2016, arXiv:1608.00507",
    cost="3 F + 3 B",
)
def excitation_backprop(
    backend: Backend, images: Array, target: Any = None, *, reduce: Reduce = "sum"
) -> Maps:
    r"""The probability that a random walk from the score along positive weights ends at a pixel.

    $$P(a_i) = \sum_j \frac{x_i W^+_{ji}}{\sum_k x_k W^+_{jk} + b^+_j} P(a_j)$$

    This is the z-plus rule of `lrp` at every layer. zennit's composite of this name stops at a
    ReLU6 whose value is 6, since it takes its ordinary derivative there; here it is passed.

    The map hardly depends on the class: of the embedded model's picture of a cat, the maps for
    "Egyptian cat" and "coffee mug" have a rank correlation of 0.99.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.
        reduce: "sum" (keeps the total), "max" or "mean" over the channels; None keeps them.

    Returns:
        Maps of shape `(N, H, W)`, in shares of the score.

    Raises:
        UnsupportedModelError: an operation of the model has no rule.

    References:
        Zhang et al. 2016, https://arxiv.org/abs/1608.00507

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import excitation_backprop
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> excitation_backprop(backend, images, 0).maps.shape
        (1, 9, 9)
    """
    return _propagated(backend, images, target, _rules(Z_PLUS, Z_PLUS), "one", reduce)


@method(
    family="gradient",
    needs={"forward", "grad", "rules"},
    paper="Achtibat et al. 2024, arXiv:2402.05602",
    cost="1 F + 1 B",
)
def attn_lrp(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    propagate_attention: bool = True,
    start: Start = "score",
    reduce: Reduce = "sum",
) -> Maps:
    r"""Relevance propagation for transformers: rules for attention, normalisations and gates.

    Layers with weights have the epsilon rule with $\epsilon = 0$, softmax its ordinary derivative.
    The product of two values, as of attention weights and values, gives half of its relevance to
    each. A normalisation divides by a constant. An activation passes relevance unchanged.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.
        propagate_attention: whether relevance passes through the attention weights too; False is
            CP-LRP, in which they are constants and the values have all of it.
        start: the relevance of the score: "score" for the score itself, or "one".
        reduce: "sum" (keeps the total), "max" or "mean" over the channels; None keeps them.

    Returns:
        Signed maps of shape `(N, H, W)`, in units of the score.

    Raises:
        UnsupportedModelError: an operation of the model has no rule.

    References:
        Achtibat et al. 2024, https://arxiv.org/abs/2402.05602;
        Ali et al. 2022 (CP-LRP), https://arxiv.org/abs/2202.07304

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import attn_lrp
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> attn_lrp(backend, images, 0).maps.shape
        (1, 9, 9)
    """
    plain = Epsilon(0.0)
    rules = _rules(plain, plain, weighs=not propagate_attention)
    return _propagated(backend, images, target, rules, start, reduce)


def _rules(conv: Any, dense: Any, **others: Any) -> Rules:
    """Return rules that pass relevance through functions, products and normalisations."""
    halves = Weighted((0.5, 0.5))
    return Rules(conv=conv, dense=dense, function=Pass(), product=halves, divides=True, **others)


def _propagated(
    backend: Backend, images: Array, target: Any, rules: Rules, start: Start, reduce: Reduce
) -> Maps:
    """Return the relevance of the images."""
    check_choice("start", start, get_args(Start))
    xp, goal = backend.xp, as_target(target, images.shape[0], backend.info.labels)
    found = backend.grad(images, goal, rules=rules)
    axes = tuple(range(len(found.scores.shape), len(found.gradients.shape)))
    relevance = found.gradients if rules.first is not None else images * found.gradients
    if start == "one":
        relevance = divided(
            xp, relevance, xp.reshape(found.scores, (*found.scores.shape, *(1,) * len(axes)))
        )
    total = {"sum": xp.sum(relevance, axis=axes)}
    return Maps(reduce_channels(xp, relevance, reduce), found.outputs, total)
