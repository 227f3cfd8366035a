"""Random subsets of the positions: the map's sum over each, and the loss of the score."""

from __future__ import annotations

import math

import numpy as np

from xaimaps.errors import MethodError
from xaimaps.methods._baselines import Baseline
from xaimaps.methods._noise import uniform
from xaimaps.methods._options import check_count
from xaimaps.metrics._case import Array, Case, Measured
from xaimaps.metrics._order import pearson, spearman
from xaimaps.metrics._registry import metric
from xaimaps.metrics._scoring import masked_scores


@metric(family="faithfulness", better="higher", paper="Bhatt, Weller, Moura 2020, arXiv:2005.00631")
def mu_fidelity(
    case: Case,
    *,
    samples: int = 200,
    grid: int = 9,
    fraction: float = 0.2,
    baseline: Baseline = None,
    probability: bool = False,
    seed: int = 0,
) -> Measured:
    r"""The rank correlation of the map's sum over subsets of cells with the loss of the score.

    For random subsets S of the cells of a grid, with $x_S$ the image without S:

    $$\rho\big(\textstyle\sum_{i \in S} \varphi_i,\; f(x) - f(x_S)\big)$$

    Args:
        case: the image and its map.
        samples: the number of subsets.
        grid: the number of cells to a side.
        fraction: the share of the cells in a subset.
        baseline: what the positions of a subset show; see `deletion`.
        probability: f is the probability of a class, instead of its logit.
        seed: of the subsets, which are the same for all images, methods and backends.

    Returns:
        Spearman's correlation, -1 to 1; NaN for a constant map.

    Raises:
        MethodError: an option is out of range.

    References:
        Bhatt, Weller, Moura 2020, https://arxiv.org/abs/2005.00631, with the cells and the rank
        correlation of Xplique (Fel et al. 2022, https://arxiv.org/abs/2206.04394)
    """
    removed = _cells(case, samples, grid, fraction, seed)
    return Measured(spearman(*_sums_and_losses(case, removed, baseline, probability)))


@metric(family="faithfulness", better="higher", paper="Bhatt, Weller, Moura 2020, arXiv:2005.00631")
def faithfulness_correlation(
    case: Case,
    *,
    samples: int = 100,
    fraction: float = 0.2,
    baseline: Baseline = None,
    probability: bool = False,
    seed: int = 0,
) -> Measured:
    """The linear correlation of the map's sum over random positions with the loss of the score.

    As `mu_fidelity`, with single positions instead of cells, and Pearson's correlation.

    Args:
        case: the image and its map.
        samples: the number of subsets.
        fraction: the share of the positions in a subset.
        baseline: what the positions of a subset show; see `deletion`.
        probability: the score is the probability of a class, instead of its logit.
        seed: of the subsets.

    Returns:
        Pearson's correlation, -1 to 1; NaN for a constant map.

    Raises:
        MethodError: an option is out of range.

    References:
        Bhatt, Weller, Moura 2020, https://arxiv.org/abs/2005.00631
    """
    removed = _subsets(samples, case.map.shape, fraction, seed)
    return Measured(pearson(*_sums_and_losses(case, removed, baseline, probability)))


@metric(family="faithfulness", better="lower", paper="Yeh et al. 2019, arXiv:1901.09392")
def infidelity(
    case: Case,
    *,
    samples: int = 100,
    grid: int = 9,
    fraction: float = 0.2,
    baseline: Baseline = None,
    probability: bool = False,
    scaled: bool = True,
    seed: int = 0,
) -> Measured:
    r"""The mean squared difference of the map's sum over subsets from the loss of the score.

    For random subsets S of the cells of a grid, as in `mu_fidelity`:

    $$\mathbb{E}_S \big(\beta \textstyle\sum_{i \in S} \varphi_i - (f(x) - f(x_S))\big)^2$$

    The map holds contributions, such as those of integrated gradients from the same baseline.

    Args:
        case: the image and its map.
        samples: the number of subsets.
        grid: the number of cells to a side.
        fraction: the share of the cells in a subset.
        baseline: what the positions of a subset show; see `deletion`.
        probability: f is the probability of a class, instead of its logit.
        scaled: beta is the best factor, as the authors compute it, so that maps of other units can
            be compared; False for 1.
        seed: of the subsets.

    Returns:
        In squared units of the score.

    Raises:
        MethodError: an option is out of range.

    References:
        Yeh et al. 2019, https://arxiv.org/abs/1901.09392
    """
    removed = _cells(case, samples, grid, fraction, seed)
    sums, losses = _sums_and_losses(case, removed, baseline, probability)
    return Measured(squared_difference(sums, losses, scaled))


def squared_difference(sums: Array, losses: Array, scaled: bool) -> float:
    """Return the mean squared difference, for the best factor of the sums if it is scaled."""
    power = sums @ sums
    factor = (sums @ losses / power if power > 0 else 0.0) if scaled else 1.0
    return float(np.mean((factor * sums - losses) ** 2))


def _sums_and_losses(
    case: Case, removed: Array, baseline: Baseline, probability: bool
) -> tuple[Array, Array]:
    """Return the map's sum over each subset `(V, *spatial)`, and the loss of the score."""
    kept = np.concatenate([np.ones((1, *removed.shape[1:]), np.float32), 1 - removed])
    whole, *others = masked_scores(case, kept, baseline, probability).astype(np.float64)
    sums = removed.reshape(len(removed), -1).astype(np.float64) @ case.map.ravel()
    return sums, whole - np.asarray(others)


def _cells(case: Case, samples: int, grid: int, fraction: float, seed: int) -> Array:
    """Choose random subsets of the cells of a grid, as masks of the map's size."""
    return _enlarged(_subsets(samples, (grid,) * case.map.ndim, fraction, seed), case.map.shape)


def _subsets(samples: int, shape: tuple[int, ...], fraction: float, seed: int) -> Array:
    """Choose random subsets of equal size, `(samples, *shape)`, with 1 for a member."""
    check_count("samples", samples, least=2)
    check_count("grid", shape[0])
    if not 0 < fraction < 1:
        raise MethodError(f"`fraction` must be between 0 and 1, got {fraction!r}")
    size = math.prod(shape)
    order = np.argsort(uniform(seed, samples, size), axis=1)
    chosen = np.zeros((samples, size), np.float32)
    np.put_along_axis(chosen, order[:, : max(1, round(fraction * size))], 1, axis=1)
    return chosen.reshape(samples, *shape)


def _enlarged(cells: Array, shape: tuple[int, ...]) -> Array:
    """Enlarge cells `(V, ...)` to positions; cells at the end may be smaller."""
    for axis, size in enumerate(shape, 1):
        cells = np.take(cells, np.arange(size) * cells.shape[axis] // size, axis=axis)
    return cells
