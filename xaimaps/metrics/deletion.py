"""Deletion and insertion: the score as positions vanish, or appear, in the order of the map."""

from __future__ import annotations

from typing import Literal

import numpy as np

from xaimaps.errors import MethodError
from xaimaps.methods._baselines import Baseline
from xaimaps.methods._options import check_count
from xaimaps.metrics._case import Array, Case, Measured
from xaimaps.metrics._order import first_masks, ranks
from xaimaps.metrics._registry import metric
from xaimaps.metrics._scoring import masked_scores

Area = Literal["fraction", "midpoints", "unit"]


@metric(family="faithfulness", better="lower", paper="Petsiuk, Das, Saenko 2018, arXiv:1806.07421")
def deletion(
    case: Case,
    *,
    steps: int = 32,
    baseline: Baseline = None,
    probability: bool = True,
    area: Area = "fraction",
) -> Measured:
    r"""The area under the score while the positions with the highest values are deleted.

    With $x_k$ the image without the fraction $k / n$ of its positions that have the highest values:

    $$\int_0^1 f(x_k)\, \mathrm{d}\tfrac{k}{n}$$

    A low area says that the map is right about what the score needs. It depends on the baseline:
    compare two of them.

    Args:
        case: the image and its map.
        steps: the number of steps.
        baseline: what deleted positions show: "black", "white", "gray", "mean", "blur", "zeros"
            or an array; None for "gray", or "zeros" if the preprocessing is not known.
        probability: f is the probability of a class, instead of its logit.
        area: "fraction" is the trapezoid rule over the fraction of the positions (torch-cam),
            "midpoints" the mean of each step's two ends (RISE's authors, Xplique), "unit" the
            trapezoid rule over steps of width 1 without the whole image (Quantus).

    Returns:
        The area, in units of the score, and the curve.

    Raises:
        MethodError: an option is out of range.

    References:
        Petsiuk, Das, Saenko 2018, https://arxiv.org/abs/1806.07421
    """
    return _curve(case, 1, steps, baseline, probability, area)


@metric(family="faithfulness", better="higher", paper="Petsiuk, Das, Saenko 2018, arXiv:1806.07421")
def insertion(
    case: Case,
    *,
    steps: int = 32,
    baseline: Baseline = None,
    probability: bool = True,
    area: Area = "fraction",
) -> Measured:
    r"""The area under the score while the positions with the highest values are restored.

    As `deletion`, with $x_k$ the baseline with the fraction $k / n$ of the image's positions that
    have the highest values. The authors of RISE begin with `baseline="blur"`.

    Args:
        case: the image and its map.
        steps: the number of steps.
        baseline: what positions show before they are restored; see `deletion`.
        probability: f is the probability of a class, instead of its logit.
        area: see `deletion`.

    Returns:
        The area, in units of the score, and the curve.

    Raises:
        MethodError: an option is out of range.

    References:
        Petsiuk, Das, Saenko 2018, https://arxiv.org/abs/1806.07421
    """
    return _curve(case, 0, steps, baseline, probability, area)


def _curve(
    case: Case, start: int, steps: int, baseline: Baseline, probability: bool, area: Area
) -> Measured:
    check_count("steps", steps)
    if area not in _AREAS:
        raise MethodError(f"`area` must be 'fraction', 'midpoints' or 'unit', got {area!r}")
    counts = np.rint(np.linspace(0, case.map.size, steps + 1)).astype(int)
    changed = first_masks(ranks(case.map), counts)
    scores = masked_scores(case, np.abs(start - changed), baseline, probability)
    curve = np.stack([counts / case.map.size, scores], axis=1)
    return Measured(_AREAS[area](curve), curve)


def _by_fraction(curve: Array) -> float:
    return float(np.trapezoid(curve[:, 1], curve[:, 0]))


def _by_midpoints(curve: Array) -> float:
    return float(np.mean((curve[1:, 1] + curve[:-1, 1]) / 2))


def _by_unit_steps(curve: Array) -> float:
    return float(np.trapezoid(curve[1:, 1]))


_AREAS = {"fraction": _by_fraction, "midpoints": _by_midpoints, "unit": _by_unit_steps}
