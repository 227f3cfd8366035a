"""Rules for functions of single elements, and for products, quotients and rectifiers."""

from __future__ import annotations

from dataclasses import dataclass

from xaimaps._arithmetic import divided
from xaimaps.propagation._change import Array, Change, Local


@dataclass(frozen=True)
class Pass:
    r"""Relevance passes a function of single elements unchanged: $c_z = c_h\, h / z$, 0 at 0."""

    def pull(self, change: Change, local: Local, c: Array) -> tuple[Array]:
        """See `Rule`."""
        return (divided(local.xp, c * local.value(change.result), local.value(change.data[0])),)


@dataclass(frozen=True)
class Keep:
    """c itself passes unchanged."""

    def pull(self, change: Change, local: Local, c: Array) -> tuple[Array]:
        """See `Rule`."""
        return (c,)


@dataclass(frozen=True)
class Weighted:
    """The ordinary derivative by each of the data, times a factor.

    Attributes:
        factors: a factor for each of the data; 0 for data that count as constants.
    """

    factors: tuple[float, ...]

    def pull(self, change: Change, local: Local, c: Array) -> tuple[Array | None, ...]:
        """See `Rule`."""
        return tuple(
            factor * _plain(change, local, name, c) if factor else None
            for name, factor in zip(change.data, self.factors, strict=True)
        )


@dataclass(frozen=True)
class Guided:
    r"""Positive values pass, times the derivative: $g_z = g_h\,[g_h > 0]\,h'(z)$."""

    def pull(self, change: Change, local: Local, c: Array) -> tuple[Array]:
        """See `Rule`."""
        positive = local.xp.where(c > 0, c, local.xp.zeros_like(c))
        return (_plain(change, local, change.data[0], positive),)


@dataclass(frozen=True)
class Deconvnet:
    r"""Positive values pass, whatever the input was: $g_z = g_h\,[g_h > 0]$."""

    def pull(self, change: Change, local: Local, c: Array) -> tuple[Array]:
        """See `Rule`."""
        return (local.xp.where(c > 0, c, local.xp.zeros_like(c)),)


def _plain(change: Change, local: Local, name: str, c: Array) -> Array:
    """Return c times the Jacobian of the operations by one of their data."""
    return local.vjp(lambda x: change.outcome(local, name, x), local.value(name), c)
