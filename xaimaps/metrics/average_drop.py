"""Average drop, increase and gain: the image multiplied by its own map."""

from __future__ import annotations

import numpy as np

from xaimaps.methods._baselines import Baseline
from xaimaps.metrics._case import Case, Measured, unit_range
from xaimaps.metrics._registry import metric
from xaimaps.metrics._scoring import masked_scores


@metric(family="faithfulness", better="lower", paper="Chattopadhay et al. 2018, arXiv:1710.11063")
def average_drop(case: Case, *, baseline: Baseline = "zeros", probability: bool = True) -> Measured:
    r"""The part of the score that is lost if the image is multiplied by its map.

    With the map scaled to 0 to 1, and $f_m$ the score of image times map:

    $$\max(0, f - f_m) / f$$

    Args:
        case: the image and its map.
        baseline: what the image fades to where the map is low; "zeros" (of the preprocessed image)
            as in the paper. See `deletion` for others.
        probability: f is the probability of a class, instead of its logit.

    Returns:
        0 to 1 for probabilities; NaN for a score that is not positive.

    References:
        Chattopadhay et al. 2018, https://arxiv.org/abs/1710.11063
    """
    before, after = _scores(case, baseline, probability)
    return Measured(max(0.0, before - after) / before if before > 0 else float("nan"))


@metric(family="faithfulness", better="higher", paper="Chattopadhay et al. 2018, arXiv:1710.11063")
def average_increase(
    case: Case, *, baseline: Baseline = "zeros", probability: bool = True
) -> Measured:
    """Whether the score is higher if the image is multiplied by its map: 1 or 0.

    Args:
        case: the image and its map.
        baseline: see `average_drop`.
        probability: the score is the probability of a class, instead of its logit.

    References:
        Chattopadhay et al. 2018, https://arxiv.org/abs/1710.11063
    """
    before, after = _scores(case, baseline, probability)
    return Measured(float(after > before))


@metric(
    family="faithfulness",
    better="higher",
    paper="Zhang et al. 2023, arXiv:2301.07002",
    needs={"class"},
)
def average_gain(case: Case, *, baseline: Baseline = "zeros") -> Measured:
    r"""The part of the missing probability that is gained if the image is multiplied by its map.

    $$\max(0, f_m - f) / (1 - f)$$

    Args:
        case: the image and its map; the target must be a class.
        baseline: see `average_drop`.

    Returns:
        0 to 1; NaN for a probability of 1.

    References:
        Zhang et al. 2023, https://arxiv.org/abs/2301.07002
    """
    before, after = _scores(case, baseline, probability=True)
    return Measured(max(0.0, after - before) / (1 - before) if before < 1 else float("nan"))


def _scores(case: Case, baseline: Baseline, probability: bool) -> tuple[float, float]:
    """Return the score of the image, and of the image times its map."""
    masks = np.stack([np.ones_like(case.map), unit_range(case.map)]).astype(np.float32)
    before, after = masked_scores(case, masks, baseline, probability)
    return float(before), float(after)
