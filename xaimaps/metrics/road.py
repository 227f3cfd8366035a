"""ROAD: remove and debias, where removed positions are imputed from those around them."""

from __future__ import annotations

from typing import Any

import numpy as np

from xaimaps.errors import MethodError
from xaimaps.methods._noise import normal
from xaimaps.methods._options import check_count
from xaimaps.metrics._case import Array, Case, Measured
from xaimaps.metrics._imputation import imputed
from xaimaps.metrics._order import first_masks, ranks
from xaimaps.metrics._registry import metric
from xaimaps.metrics._scoring import scores_of_variants


@metric(family="faithfulness", better="higher", paper="Rong et al. 2022, arXiv:2202.00449")
def road(
    case: Case,
    *,
    percentiles: tuple[int, ...] = (10, 20, 30, 40, 50, 60, 70, 80, 90),
    noise: float = 0.01,
    probability: bool = True,
    iterations: int = 50,
    seed: int = 0,
) -> Measured:
    r"""The score without the least relevant positions, less that without the most relevant ones.

    With $x_p^-$ and $x_p^+$ the image without the p percent of its positions that have the lowest
    and the highest values, imputed from their neighbours:

    $$\frac{1}{2}\, \mathrm{mean}_p \big(f(x_p^-) - f(x_p^+)\big)$$

    An imputed value is the mean of its neighbours, diagonal ones with half the weight. This is a
    linear system for all removed positions, solved by conjugate gradients on the device.

    Args:
        case: the image and its map.
        percentiles: the shares p, in percent.
        noise: the standard deviation of noise on the imputed values, in the model's units.
        probability: f is the probability of a class, instead of its logit.
        iterations: the most steps of the solver, for each size of the image, which is
            halved down to a single position.
        seed: of the noise.

    Returns:
        The difference of the scores, and the curve of the most relevant positions.

    Raises:
        MethodError: an option is out of range, or the images have other than two spatial axes.

    References:
        Rong et al. 2022, https://arxiv.org/abs/2202.00449
    """
    check_count("iterations", iterations)
    if case.map.ndim != 2:
        raise MethodError(f"`road` needs images of two spatial axes, got {case.map.ndim}")
    if not percentiles or not all(0 < p < 100 for p in percentiles):
        raise MethodError(f"`percentiles` must be between 0 and 100, got {percentiles!r}")
    counts = np.rint(np.asarray(percentiles) / 100 * case.map.size).astype(int)
    most = first_masks(ranks(case.map), counts)
    least = first_masks(ranks(-case.map), counts)
    grain = noise * normal(seed, *case.image.shape)
    steps = np.zeros(iterations, np.float32)
    scores = scores_of_variants(
        case, _imputed, (np.concatenate([most, least]),), (grain, steps), probability
    )
    by_most, by_least = scores.reshape(2, -1)
    curve: Array = np.stack([np.asarray(percentiles) / 100, by_most], axis=1)
    return Measured(float(np.mean(by_least - by_most) / 2), curve)


def _imputed(backend: Any, image: Any, grain: Any, steps: Any, removed: Any) -> Any:
    return imputed(backend, image, removed, steps) + removed[..., None] * grain
