"""DeepLIFT's rules: differences from a reference in place of derivatives.

c at a value is a multiplier: c times the difference of the value from its reference is its
contribution to the difference of the score. Each rule is complete, so that the contributions of an
operation's data sum to that of its result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xaimaps._arithmetic import divided
from xaimaps.propagation._change import Array, Change, Local

SMALL = 1e-6
"""A difference below which the derivative is the multiplier, as in SHAP."""


@dataclass(frozen=True)
class Rescale:
    r"""For a function of single elements: $c_x = c_y (y - y') / (x - x')$."""

    def pull(self, change: Change, local: Local, c: Array) -> tuple[Array]:
        """See `Rule`."""
        xp, (name,) = local.xp, change.data
        x, difference = local.value(name), local.value(name) - local.reference(name)
        is_small = xp.abs(difference) < SMALL
        rise = local.value(change.result) - local.reference(change.result)
        slope = local.vjp(lambda x: change.outcome(local, name, x), x, c)
        safe = xp.where(is_small, xp.ones_like(difference), difference)
        return (xp.where(is_small, slope, c * rise / safe),)


@dataclass(frozen=True)
class Winner:
    """For max pooling: each of the two maxima gets the part of the difference that it makes.

    With the larger value m of y and y', the position of the maximum of x has m - y', and that of
    the maximum of x' has y - m.
    """

    def pull(self, change: Change, local: Local, c: Array) -> tuple[Array]:
        """See `Rule`."""
        xp, (name,) = local.xp, change.data
        x, before = local.value(name), local.reference(name)
        y, y_before = local.value(change.result), local.reference(change.result)
        larger = xp.where(y > y_before, y, y_before)

        def pool(x: Array) -> Array:
            return change.outcome(local, name, x)

        gained = local.vjp(pool, x, c * (larger - y_before))
        return (divided(xp, gained + local.vjp(pool, before, c * (y - larger)), x - before),)


@dataclass(frozen=True)
class Midpoint:
    """For a product of two values: each multiplier is the mean of the other value and reference."""

    def pull(self, change: Change, local: Local, c: Array) -> tuple[Array, ...]:
        """See `Rule`."""
        means = {name: (local.value(name) + local.reference(name)) / 2 for name in change.data}

        def outcome(name: str, x: Array) -> Array:
            return local.compute({**means, name: x}, change.result)

        return tuple(
            local.vjp(lambda x, name=name: outcome(name, x), local.value(name), c)  # type: ignore[misc]
            for name in change.data
        )


@dataclass(frozen=True)
class Share:
    """For a quotient: the midpoint rule for the product with the inverse, and its rescale rule."""

    def pull(self, change: Change, local: Local, c: Array) -> tuple[Array | None, ...]:
        """See `Rule`."""
        above, below = change.operations[0].reads
        found = {name: self._of(change, local, c, name, above, below) for name in change.data}
        return tuple(found[name] for name in change.data)

    @staticmethod
    def _of(change: Change, local: Local, c: Array, name: str, above: str, below: str) -> Array:
        """Return the mean of the multipliers at the other value and at its reference."""
        other = below if name == above else above
        ends: list[Any] = [local.value(other)]
        if other in change.data:
            ends.append(local.reference(other))
        pulled = [_secant(change, local, c, name, {other: end}) for end in ends]
        return sum(pulled[1:], pulled[0]) / len(pulled)


def _secant(change: Change, local: Local, c: Array, name: str, given: dict[str, Array]) -> Array:
    """Return c times the difference quotient of the result by one value, the others given."""
    x, before = local.value(name), local.reference(name)

    def outcome(x: Array) -> Array:
        return local.compute({**given, name: x}, change.result)

    if name == change.operations[0].reads[0]:  # the result is linear in it
        return local.vjp(outcome, x, c)
    # d(a / b) / db is -a / b^2, and its difference quotient -a / (b b'): the geometric mean of both
    return local.vjp(outcome, x, c * x / before)
