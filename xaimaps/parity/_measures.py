"""How far two arrays are apart, image by image, and the tolerances that are promised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from sys import float_info
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

from xaimaps.errors import MethodError
from xaimaps.methods import Method

Array = np.ndarray[Any, Any]


class Measures(NamedTuple):
    """The worst of any image; of equal arrays 0, 0, 0, 0, 1, 1.

    Attributes:
        absolute: the largest difference.
        relative: the largest difference over the reference's largest magnitude.
        spread: the largest difference over the reference's standard deviation.
        length: how much longer or shorter the vector is, over the reference's length.
        cosine: the cosine of the angle between the two, as vectors.
        rank: Spearman's rank correlation; NaN where it was not asked for.
    """

    absolute: float
    relative: float
    spread: float
    length: float
    cosine: float
    rank: float

    def worst(self, other: Measures) -> Measures:
        """The worse of the two in every measure; NaN is the worst."""
        return Measures(
            *(float(np.maximum(a, b)) for a, b in zip(self[:4], other[:4], strict=True)),
            *(float(np.minimum(a, b)) for a, b in zip(self[4:], other[4:], strict=True)),
        )


APART = Measures(*6 * (np.nan,))
"""Of arrays that have different shapes: no tolerance allows it."""


def measure(found: Array, expected: Array, *, rank: bool = True) -> Measures:
    """Compare batches of equal shape.

    Args:
        found: `(N, ...)`.
        expected: the reference's, `(N, ...)`.
        rank: whether to sort for the rank correlation, which takes long for large arrays.
    """
    pairs = zip(found, expected, strict=True)
    worst, *rest = (_of_one(np.ravel(a), np.ravel(b), rank) for a, b in pairs)
    for one in rest:
        worst = worst.worst(one)
    return worst


def _of_one(found: Array, expected: Array, rank: bool) -> Measures:
    a, b = found.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinity less infinity is told as NaN
        apart, length = float(np.abs(a - b).max()), float(np.linalg.norm(b))
        longer = float(np.abs(np.linalg.norm(a) - length))
        spread = b.std()
    return Measures(
        apart,
        _over(apart, np.abs(b).max()),
        _over(apart, spread),
        _over(longer, length),
        _cosine(a, b),
        _cosine(_ranks(a), _ranks(b)) if rank else np.nan,
    )


def _over(apart: float, size: float) -> float:
    """A ratio where nothing apart is 0 whatever the size."""
    return 0.0 if apart == 0 else float(apart / size) if size > 0 else np.inf


def _cosine(a: Array, b: Array) -> float:
    """The cosine of the angle; of equal vectors 1, zeros included."""
    if np.array_equal(a, b):
        return 1.0
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    with np.errstate(invalid="ignore"):
        return float(a @ b / lengths) if lengths != 0 else 0.0


def _ranks(values: Array) -> Array:
    """Each value's place in ascending order, equal ones sharing their mean, around zero."""
    if not np.isfinite(values).all():
        return np.full(values.shape, np.nan)
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[place]
    return np.asarray(ranks - ranks.mean())


def top_agreement(found: Array, expected: Array, count: int = 5) -> float:
    """The smallest share, over the images, of the reference's top classes that are found too."""
    count = min(count, expected.shape[-1])
    best = [np.argsort(-scores, axis=-1, kind="stable")[:, :count] for scores in (found, expected)]
    shared = [len(np.intersect1d(a, b)) / count for a, b in zip(*best, strict=True)]
    return min(shared)


@dataclass(frozen=True)
class Tolerance:
    """What two frameworks may differ by.

    Attributes:
        measure: the name of the measure that decides.
        bound: the largest value that it may have; of a cosine, the smallest. With a cosine the
            lengths are held together too, to ten times what the cosine may lack of 1.

    Raises:
        MethodError: the bound is none that could decide anything.
    """

    measure: Literal["relative", "spread", "cosine"]
    bound: float

    def __post_init__(self) -> None:
        if self.measure not in ("relative", "spread", "cosine"):
            raise MethodError(f"`measure` must be relative, spread or cosine, got {self.measure!r}")
        is_number = isinstance(self.bound, int | float) and not isinstance(self.bound, bool)
        most = 1 if self.measure == "cosine" else float_info.max
        if not is_number or not 0 <= self.bound <= most:
            raise MethodError(
                f"a tolerance must be a number from 0{' to 1' if most == 1 else ''}, got "
                f"{self.bound!r}"
            )

    def allows(self, measures: Measures) -> bool:
        """Whether the measure keeps to the bound; NaN does not."""
        if self.measure != "cosine":
            return bool(getattr(measures, self.measure) <= self.bound)
        is_as_long = measures.length <= 10 * (1 - self.bound) + 1e-6
        return bool(measures.cosine >= self.bound and is_as_long)

    def at(self, bound: float) -> Tolerance:
        """The same measure with another bound."""
        return replace(self, bound=bound)

    def __str__(self) -> str:
        return f"{self.measure} {'>=' if self.measure == 'cosine' else '<='} {self.bound:g}"


INPUTS = Tolerance("relative", 1e-6)
LOGITS = Tolerance("spread", 1e-4)
LAYERS = Tolerance("relative", 1e-4)
# Where a value is within rounding of a rectifier's kink, whole pixels of a gradient change.
GRADIENTS = Tolerance("cosine", 0.999)

FAMILIES: Mapping[str, Tolerance] = MappingProxyType(
    {
        "cam": Tolerance("relative", 1e-4),
        "custom": GRADIENTS,
        "gradient": GRADIENTS,
        "perturbation": Tolerance("relative", 1e-4),
    }
)


DISTURBANCE = 1e-5
"""How far images are disturbed to see what rounding does to a method, over each value."""


def tolerance_of(method: Method) -> Tolerance:
    """What the maps of a method may differ by, before resizing, unless it `is_sensitive`."""
    usual = FAMILIES[method.family]
    return usual if method.tolerance is None else usual.at(method.tolerance)


def tolerance_beside(own: Measures) -> Tolerance:
    """What the maps of a sensitive method may differ by: a fifth of cosine more than they do alone.

    Args:
        own: how far the reference's maps are from those that it makes of disturbed images.
    """
    return Tolerance("cosine", round(max(min(own.cosine, GRADIENTS.bound) - 0.2, 0.0), 2))
