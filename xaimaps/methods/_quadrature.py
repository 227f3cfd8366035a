"""Integrals from 0 to 1 as weighted sums."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np

from xaimaps.errors import MethodError, nearest
from xaimaps.methods._options import check_count

Rule = Literal["gauss_legendre", "trapezoid", "riemann_left", "riemann_right", "riemann_middle"]


class Quadrature(NamedTuple):
    """The points and weights of an integral from 0 to 1."""

    points: np.ndarray[Any, Any]
    weights: np.ndarray[Any, Any]


def quadrature(rule: str, n_steps: int) -> Quadrature:
    """Return the points and weights of a rule; the weights sum to 1.

    Raises:
        MethodError: there is no such rule, or too few steps for it.
    """
    least = 2 if rule == "trapezoid" else 1
    check_count("n_steps", n_steps, least)
    ends = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}
    if rule in ends:
        points = (np.arange(n_steps) + ends[rule]) / n_steps
        return Quadrature(points, np.full(n_steps, 1 / n_steps))
    if rule == "trapezoid":
        weights = np.full(n_steps, 1 / (n_steps - 1))
        weights[[0, -1]] /= 2
        return Quadrature(np.linspace(0, 1, n_steps), weights)
    if rule == "gauss_legendre":
        return _legendre(n_steps)
    rules = ("gauss_legendre", "trapezoid", *ends)
    raise MethodError(
        f"`rule` must be one of {', '.join(rules)}, got {rule!r}{nearest(rule, rules)}"
    )


@lru_cache(8)
def _legendre(n_steps: int) -> Quadrature:
    points, weights = np.polynomial.legendre.leggauss(n_steps)
    return Quadrature((1 + points) / 2, weights / 2)
