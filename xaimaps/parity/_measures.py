"""Measures of the difference between two arrays, image by image, and the promised tolerances."""

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
    """The worst value over all images; 0, 0, 0, 0, 1, 1 for equal arrays.

    Attributes:
        absolute: the largest difference.
        relative: the largest difference divided by the reference's largest magnitude.
        spread: the largest difference divided by the reference's standard deviation, or by its
            largest magnitude if all its values are equal, such as a single one.
        length: the difference of the vectors' lengths divided by the reference's length.
        cosine: the cosine of the angle between the vectors.
        rank: Spearman's rank correlation; NaN if not computed.
    """

    absolute: float
    relative: float
    spread: float
    length: float
    cosine: float
    rank: float

    def worst(self, other: Measures) -> Measures:
        """Return the worse value of every measure; NaN is the worst."""
        return Measures(
            *(float(np.maximum(a, b)) for a, b in zip(self[:4], other[:4], strict=True)),
            *(float(np.minimum(a, b)) for a, b in zip(self[4:], other[4:], strict=True)),
        )


APART = Measures(*6 * (np.nan,))
"""The measures of arrays with different shapes, which no tolerance allows."""


def measure(found: Array, expected: Array, *, rank: bool = True) -> Measures:
    """Compare batches of equal shape.

    Args:
        found: `(N, ...)`.
        expected: the reference's, `(N, ...)`.
        rank: whether to compute the rank correlation, which is slow for large arrays.
    """
    pairs = zip(found, expected, strict=True)
    worst, *rest = (_of_one(np.ravel(a), np.ravel(b), rank) for a, b in pairs)
    for one in rest:
        worst = worst.worst(one)
    return worst


def _of_one(found: Array, expected: Array, rank: bool) -> Measures:
    a, b = found.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinity minus infinity is reported as NaN
        apart, length = float(np.abs(a - b).max()), float(np.linalg.norm(b))
        longer = float(np.abs(np.linalg.norm(a) - length))
        spread = b.std() or np.abs(b).max()
    return Measures(
        apart,
        _over(apart, np.abs(b).max()),
        _over(apart, spread),
        _over(longer, length),
        _cosine(a, b),
        _cosine(_ranks(a), _ranks(b)) if rank else np.nan,
    )


def _over(apart: float, size: float) -> float:
    """Divide, with 0 for a difference of 0."""
    return 0.0 if apart == 0 else float(apart / size) if size > 0 else np.inf


def _cosine(a: Array, b: Array) -> float:
    """Return the cosine of the angle; 1 for equal vectors, including zeros."""
    if np.array_equal(a, b):
        return 1.0
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    with np.errstate(invalid="ignore"):
        return float(a @ b / lengths) if lengths != 0 else 0.0


def _ranks(values: Array) -> Array:
    """Return the centred rank of each value in ascending order; equal values share their mean."""
    if not np.isfinite(values).all():
        return np.full(values.shape, np.nan)
    _, position, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[position]
    return np.asarray(ranks - ranks.mean())


def top_agreement(found: Array, expected: Array, count: int = 5) -> float:
    """Return the smallest fraction, over the images, of the reference's top classes in `found`."""
    count = min(count, expected.shape[-1])
    best = [np.argsort(-scores, axis=-1, kind="stable")[:, :count] for scores in (found, expected)]
    shared = [len(np.intersect1d(a, b)) / count for a, b in zip(*best, strict=True)]
    return min(shared)


@dataclass(frozen=True)
class Tolerance:
    """The allowed difference between two frameworks.

    Attributes:
        measure: the name of the measure to compare with the bound.
        bound: the largest allowed value; the smallest for a cosine. With a cosine, the lengths may
            differ by up to 10 (1 - bound) of the reference's length.

    Raises:
        MethodError: the measure is unknown, or the bound out of range.
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
        """Whether the measure is within the bound; NaN is not."""
        if self.measure != "cosine":
            return bool(getattr(measures, self.measure) <= self.bound)
        is_as_long = measures.length <= 10 * (1 - self.bound) + 1e-6
        return bool(measures.cosine >= self.bound and is_as_long)

    def as_relative(self) -> float:
        """Return a difference, relative to the largest value, that is about as large as allowed.

        Two vectors of length 1 with the cosine c differ by a vector of the length sqrt(2 - 2 c).
        """
        return (2 - 2 * self.bound) ** 0.5 if self.measure == "cosine" else self.bound

    def at(self, bound: float) -> Tolerance:
        """Return the same measure with another bound."""
        return replace(self, bound=bound)

    def __str__(self) -> str:
        return f"{self.measure} {'>=' if self.measure == 'cosine' else '<='} {self.bound:g}"


INPUTS = Tolerance("relative", 1e-6)
LOGITS = Tolerance("spread", 1e-4)
LAYERS = Tolerance("relative", 1e-4)
# Rounding at the kink of a rectifier changes whole pixels of a gradient.
GRADIENTS = Tolerance("cosine", 0.999)

FAMILIES: Mapping[str, Tolerance] = MappingProxyType(
    {
        "attention": Tolerance("relative", 1e-4),
        "cam": Tolerance("relative", 1e-4),
        "custom": GRADIENTS,
        "gradient": GRADIENTS,
        "perturbation": Tolerance("relative", 1e-4),
    }
)


DISTURBANCE = 1e-5
"""The relative noise on images that measures the effect of rounding on a method."""


def tolerance_of(method: Method) -> Tolerance:
    """Return the tolerance of a method's maps before resizing, unless it `is_sensitive`."""
    usual = FAMILIES[method.family]
    return usual if method.tolerance is None else usual.at(method.tolerance)


def tolerance_beside(own: Measures) -> Tolerance:
    """Return the tolerance of a sensitive method: the measured cosine minus 0.2.

    Args:
        own: the difference between the reference's maps of the images and of disturbed images.
    """
    return Tolerance("cosine", round(max(min(own.cosine, GRADIENTS.bound) - 0.2, 0.0), 2))
