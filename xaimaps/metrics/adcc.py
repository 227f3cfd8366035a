"""ADCC: average drop, coherency and complexity in one number."""

from __future__ import annotations

import numpy as np

from xaimaps.methods._baselines import Baseline
from xaimaps.metrics._case import Case, Measured, unit_range
from xaimaps.metrics._order import pearson
from xaimaps.metrics._registry import metric
from xaimaps.metrics._scoring import filling
from xaimaps.metrics.average_drop import average_drop


@metric(
    family="faithfulness", better="higher", needs={"explanation"},
    paper="Poppi et al. 2021, arXiv:2104.10252",
)  # fmt: skip
def adcc(case: Case, *, baseline: Baseline = "zeros", probability: bool = True) -> Measured:
    r"""The harmonic mean of coherency, one minus complexity, and one minus average drop.

    With the map scaled to 0 to 1, coherency is its correlation with the map of image times map, as
    $(r + 1) / 2$, and complexity its mean.

    Args:
        case: the image and its map.
        baseline: see `average_drop`.
        probability: see `average_drop`.

    Returns:
        0 to 1; NaN if a part is not defined.

    References:
        Poppi et al. 2021, https://arxiv.org/abs/2104.10252
    """
    mask, base = unit_range(case.map), filling(case, baseline)
    image = base + mask[..., None].astype(np.float32) * (case.image - base)
    again = case.explained(image[None])[0]
    coherency = (pearson(case.map.ravel(), again.ravel()) + 1) / 2
    drop = average_drop(case, baseline=baseline, probability=probability).value
    parts = np.array([coherency, 1 - mask.mean(), 1 - drop])
    return Measured(float(3 / np.sum(1 / parts)) if (parts > 0).all() else _undefined(parts))


def _undefined(parts: np.ndarray) -> float:
    """Return 0 if a part is zero, NaN if one is not defined."""
    return float("nan") if np.isnan(parts).any() else 0.0
