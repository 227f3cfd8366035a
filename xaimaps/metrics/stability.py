"""Stability: how much a map changes if the image changes a little."""

from __future__ import annotations

from typing import Literal

import numpy as np

from xaimaps.errors import MethodError
from xaimaps.methods._noise import uniform
from xaimaps.methods._options import check_count
from xaimaps.metrics._case import Array, Case, Measured
from xaimaps.metrics._registry import metric
from xaimaps.targets import Scene

LEAST = 1e-6
"""The smallest magnitude of a divisor."""


@metric(
    family="robustness", better="lower", needs={"explanation"},
    paper="Yeh et al. 2019, arXiv:1901.09392",
)  # fmt: skip
def max_sensitivity(
    case: Case, *, radius: float = 0.02, samples: int = 10, seed: int = 0
) -> Measured:
    r"""The largest relative change of the map among random changes of the image.

    $$\max_{\lVert d \rVert_\infty \le r}
    \frac{\lVert \varphi(x + d) - \varphi(x) \rVert}{\lVert \varphi(x) \rVert}$$

    Args:
        case: the image and its map; the target stays that of the image.
        radius: the largest change r of a value of the model's input, in its units.
        samples: the number of random changes.
        seed: of the changes.

    Returns:
        At least 0; NaN for a map of zeros.

    Raises:
        MethodError: an option is out of range.

    References:
        Yeh et al. 2019, https://arxiv.org/abs/1901.09392
    """
    changed = case.explained(_changed_images(case, radius, samples, seed))
    return Measured(largest_change(case.map, changed))


@metric(
    family="robustness", better="lower", needs={"explanation"},
    paper="Agarwal et al. 2022, arXiv:2203.06877",
)  # fmt: skip
def relative_stability(
    case: Case,
    *,
    to: Literal["input", "output"] = "input",
    radius: float = 0.02,
    samples: int = 10,
    seed: int = 0,
) -> Measured:
    r"""The median relative change of the map, over the relative change of the input or output.

    With $z = x$ for the input or $z = f(x)$, all outputs, and divisions value by value:

    $$\frac{\lVert (\varphi(x + d) - \varphi(x)) / \varphi(x) \rVert}
    {\lVert (z(x + d) - z(x)) / z(x) \rVert}$$

    The authors take the maximum; near-zero values of the map then decide it, so that this is the
    median.

    Args:
        case: the image and its map.
        to: "input" or "output".
        radius: see `max_sensitivity`.
        samples: the number of random changes.
        seed: of the changes.

    Raises:
        MethodError: an option is out of range.

    References:
        Agarwal et al. 2022, https://arxiv.org/abs/2203.06877
    """
    if to not in ("input", "output"):
        raise MethodError(f"`to` must be 'input' or 'output', got {to!r}")
    images = _changed_images(case, radius, samples, seed)
    whole = np.concatenate([case.image[None], images])
    values = whole if to == "input" else Scene(case.backend, whole).outputs_of(whole)
    found = case.explained(images)
    return Measured(median_ratio(case.map, found, values[0], values[1:]))


def largest_change(map: Array, changed: Array) -> float:
    """Return the largest relative distance of maps `(V, ...)` from a map `(...)`."""
    norm = np.linalg.norm(map)
    distances = np.linalg.norm((changed - map).reshape(len(changed), -1), axis=1)
    return float(distances.max() / norm) if norm > 0 else float("nan")


def median_ratio(map: Array, maps: Array, value: Array, values: Array) -> float:
    """Return the median ratio of the relative change of maps to that of other values."""
    ratios = _relative(map, maps) / np.maximum(_relative(value, values), LEAST)
    return float(np.median(ratios))


def _relative(one: Array, others: Array) -> Array:
    """Return the norm of the change of each value, relative to the value: `(V,)`."""
    divisor = np.where(np.abs(one) < LEAST, LEAST, one).astype(np.float64)
    relative = ((others - one) / divisor).reshape(len(others), -1)
    return np.asarray(np.linalg.norm(relative, axis=1))


def _changed_images(case: Case, radius: float, samples: int, seed: int) -> Array:
    check_count("samples", samples)
    if not radius > 0:
        raise MethodError(f"`radius` must be above 0, got {radius!r}")
    noise = uniform(seed, samples, *case.image.shape)
    changed: Array = (case.image + radius * (2 * noise - 1)).astype(np.float32)
    return changed
