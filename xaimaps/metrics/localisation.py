"""Localisation: how much of a map lies on the object."""

from __future__ import annotations

import numpy as np

from xaimaps.errors import MethodError
from xaimaps.methods._options import check_count
from xaimaps.metrics._case import Array, Case, Measured, unit_range
from xaimaps.metrics._order import ranks
from xaimaps.metrics._registry import metric


@metric(
    family="localisation", better="higher", needs={"region"},
    paper="Zhang et al. 2018, arXiv:1608.00507",
)  # fmt: skip
def pointing_game(case: Case, *, tolerance: int = 0) -> Measured:
    """Whether the highest value of the map lies on the object: 1 or 0.

    Args:
        case: the image, its map and the region of the object.
        tolerance: the distance in pixels up to which a position beside the object counts; the paper
            takes 15 for pictures of their own size.

    Raises:
        MethodError: `tolerance` is negative.

    References:
        Zhang et al. 2018, https://arxiv.org/abs/1608.00507
    """
    check_count("tolerance", tolerance, least=0)
    highest = np.argwhere(case.map == case.map.max())
    distances = np.linalg.norm(highest[:, None] - np.argwhere(_region(case))[None], axis=-1)
    return Measured(float(distances.min() <= tolerance))


@metric(
    family="localisation", better="higher", needs={"region"},
    paper="Wang et al. 2020, arXiv:1910.01279",
)  # fmt: skip
def energy_pointing_game(case: Case) -> Measured:
    """The share of the map's positive values that lies on the object.

    Returns:
        0 to 1; NaN for a map without positive values. It is also called relevance mass accuracy.

    References:
        Wang et al. 2020, https://arxiv.org/abs/1910.01279
    """
    values = np.maximum(case.map, 0).astype(np.float64)
    total = values.sum()
    return Measured(float(values[_region(case)].sum() / total) if total else float("nan"))


@metric(
    family="localisation", better="higher", needs={"region"},
    paper="Arras, Osman, Samek 2022, arXiv:2003.07258",
)  # fmt: skip
def rank_accuracy(case: Case) -> Measured:
    """The share of the object's s positions among the s highest values of the map.

    References:
        Arras, Osman, Samek 2022, https://arxiv.org/abs/2003.07258
    """
    region = _region(case)
    return Measured(float(np.mean(ranks(case.map)[region] < region.sum())))


@metric(
    family="localisation", better="higher", needs={"region"},
    paper="Fawcett 2006, doi:10.1016/j.patrec.2005.10.010",
)  # fmt: skip
def region_auc(case: Case) -> Measured:
    """The area under the ROC curve, if the map were to tell the object from the rest.

    Returns:
        0.5 for a map that knows nothing; NaN for an object that fills the image.

    References:
        Fawcett 2006, https://doi.org/10.1016/j.patrec.2005.10.010
    """
    region = _region(case)
    inside, outside = np.sort(case.map[region]), np.sort(case.map[~region])
    if not outside.size:
        return Measured(float("nan"))
    below = np.searchsorted(outside, inside, side="left").mean()
    equal = np.searchsorted(outside, inside, side="right").mean() - below
    return Measured(float((below + equal / 2) / outside.size))


@metric(
    family="localisation", better="higher", needs={"region"},
    paper="Zhou et al. 2016, arXiv:1512.04150",
)  # fmt: skip
def iou(case: Case, *, threshold: float = 0.15) -> Measured:
    """The overlap of the object with the positions above a threshold: intersection over union.

    Args:
        case: the image, its map and the region of the object.
        threshold: of the map scaled to 0 to 1; 0.15 is that of the paper, for boxes.

    Raises:
        MethodError: `threshold` is not between 0 and 1.

    References:
        Zhou et al. 2016, https://arxiv.org/abs/1512.04150
    """
    if not 0 <= threshold < 1:
        raise MethodError(f"`threshold` must be from 0 to below 1, got {threshold!r}")
    found, region = unit_range(case.map) > threshold, _region(case)
    return Measured(float((found & region).sum() / (found | region).sum()))


def _region(case: Case) -> Array:
    assert case.region is not None, "a metric that needs it is refused before"
    return case.region
