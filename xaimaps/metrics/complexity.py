"""Sparseness and complexity: how concentrated a map is. They say nothing of the model."""

from __future__ import annotations

import numpy as np

from xaimaps.metrics._case import Array, Case, Measured
from xaimaps.metrics._registry import metric


@metric(family="complexity", better="higher", paper="Chalasani et al. 2020, arXiv:1810.06583")
def sparseness(case: Case) -> Measured:
    r"""The Gini index of the map's absolute values.

    With the n values sorted, $s_1 \le \dots \le s_n$:

    $$\frac{\sum_i (2 i - n - 1)\, s_i}{n \sum_i s_i}$$

    Returns:
        0 for a constant map, near 1 for one with a single position; NaN for a map of zeros.

    References:
        Chalasani et al. 2020, https://arxiv.org/abs/1810.06583
    """
    values = np.sort(_magnitudes(case))
    weights = 2 * np.arange(1, values.size + 1) - values.size - 1
    total = values.sum()
    return Measured(float(weights @ values / (values.size * total)) if total else float("nan"))


@metric(family="complexity", better="lower", paper="Bhatt, Weller, Moura 2020, arXiv:2005.00631")
def complexity(case: Case) -> Measured:
    r"""The entropy of the map's absolute values, in nats.

    With $p_i$ the share of position i in their sum: $-\sum_i p_i \ln p_i$.

    Returns:
        0 for a single position up to $\ln n$ for a constant map; NaN for a map of zeros.

    References:
        Bhatt, Weller, Moura 2020, https://arxiv.org/abs/2005.00631
    """
    values = _magnitudes(case)
    shares = values[values > 0] / values.sum() if values.any() else np.array([float("nan")])
    return Measured(float(-(shares @ np.log(shares))))


def _magnitudes(case: Case) -> Array:
    return np.abs(case.map, dtype=np.float64).ravel()
