"""DeepLIFT: contributions to the difference of the score from that of a baseline."""

from __future__ import annotations

from typing import Any

from xaimaps.backend import Array, Backend
from xaimaps.methods._baselines import Baseline, default_baseline, draw_baselines, drawn_baselines
from xaimaps.methods._batching import zero_maps
from xaimaps.methods._derived_target import DerivedTarget
from xaimaps.methods._maps import Maps, Reduce, complete, named
from xaimaps.methods._registry import method
from xaimaps.propagation import Midpoint, Rescale, Rules, Share, Winner

RULES = Rules(
    function=Rescale(), product=Midpoint(), quotient=Share(), max_pool=Winner(), compares=True
)


@method(
    family="gradient",
    needs={"forward", "grad", "rules"},
    paper="Shrikumar et al. 2017, arXiv:1704.02685",
    cost="4 F + 1 B",
    draws=draw_baselines,
    defaults=lambda backend: {"baseline": default_baseline(backend)},
)
def deep_lift(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    baseline: Baseline = None,
    n_baselines: int = 4,
    seed: int = 0,
    reduce: Reduce = "sum",
    noise: Array | None = None,
) -> Maps:
    r"""The contribution of each pixel to the difference of the score from that of a baseline.

    $$M_{ij} = \sum_c (x_{ijc} - x'_{ijc})\, m_{ijc}$$

    The multipliers m are passed back like gradients, but a function of single elements has the
    difference quotient $(y - y') / (x - x')$ in place of its derivative (the rescale rule), the
    product of two values the mean of the other value and its reference, and max pooling gives to
    both maxima what each of them makes. So the maps sum to the difference of the scores, up to
    rounding: `details["completeness_delta"]` is the error. With several baselines, the maps are
    averaged over them (DeepLiftShap).

    Captum's DeepLift takes the gradient of every activation that it does not list, such as ReLU6
    and GELU, and its maps then do not sum to the difference; nor do they behind max pooling.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.
        baseline: the reference. A colour of the picture before preprocessing: "black", "white",
            "gray", "mean" (the image's mean colour), "blur" or "noise"; "zeros" or a preprocessed
            array `(H, W, C)`; or several `(B, H, W, C)`, over which the maps are averaged. None is
            black, or zeros if the model's preprocessing is unknown.
        n_baselines: the number of random baselines for "noise".
        seed: of the noise.
        reduce: "sum" (keeps the total), "max" or "mean" over the channels; None keeps them.
        noise: uniform `(n_baselines, H, W, C)` from 0 to 1; None draws it from `seed`.

    Returns:
        Signed maps of shape `(N, H, W)`, in units of the score.

    Raises:
        UnsupportedModelError: the model has an operation without a rule, such as a softmax inside.
        MethodError: there is no such baseline.

    References:
        Shrikumar, Greenside, Kundaje 2017, https://arxiv.org/abs/1704.02685;
        Lundberg, Lee 2017, https://arxiv.org/abs/1705.07874

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import deep_lift
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> deep_lift(backend, images, 0).maps.shape
        (1, 9, 9)
    """
    xp, (outputs, wanted) = backend.xp, named(backend, images, target)
    starts = drawn_baselines(backend, images, baseline, n_baselines, seed, noise)
    n, pairs = images.shape[0], Paired(wanted)

    def add(total: Array, start: Array) -> tuple[Array, Array]:
        references = start + xp.zeros_like(images)
        found = backend.grad(xp.concat([images, references]), pairs, rules=RULES)
        is_several = len(found.scores.shape) > 1
        multipliers = found.gradients[:, :n, ...] if is_several else found.gradients[:n, ...]
        score = wanted.scores(xp, found.outputs[n:, ...])
        return total + (images - references) * multipliers, score

    total, scores = backend.scan(add, zero_maps(xp, images, wanted, outputs), starts)
    return complete(xp, total / starts.shape[0], wanted, outputs, xp.mean(scores, axis=0), reduce)


class Paired(DerivedTarget):
    """A target's scores of the images, and 0 for the references behind them."""

    def scores(self, xp: Any, outputs: Array) -> Array:
        scores = self.target.scores(xp, outputs[: outputs.shape[0] // 2, ...])
        return xp.concat([scores, xp.zeros_like(scores)], axis=-1)
