"""Rules for linear layers: convolutions, dense layers and what is folded into them.

A layer is z = W x + t, with the weights W = s W0 of an operation W0 that the constants s of a
following batch normalisation scale, and all added constants t. The parts of z are the products of
one weight and one value. Their positive ones sum to (W x + |W| |x|) / 2 and their negative ones to
(W x - |W| |x|) / 2, so that |W| |x| is all that a rule has to compute in addition to W x.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

from xaimaps._arithmetic import divided
from xaimaps.propagation._change import Array, Change, Local

STABILIZER = 1e-6
"""zennit's: added to denominators with their sign."""

Sign = Literal[1, -1]

SIGNS: tuple[Sign, Sign] = (1, -1)


@dataclass(frozen=True)
class Layer:
    """A linear layer at its data, as a function of parts of the data and weights.

    Attributes:
        change: the operations.
        local: their values.
        c: what reaches the result.
    """

    change: Change
    local: Local
    c: Array

    @functools.cached_property
    def x(self) -> Array:
        """The data."""
        return self.local.value(self.change.data[0])

    @functools.cached_property
    def weights(self) -> Array:
        """W0."""
        return self.local.value(self.change.weights)

    @functools.cached_property
    def z(self) -> Array:
        """W x + t, in the shape that the first operation gives it."""
        return self._shaped(self.local.value(self.change.layer))

    @functools.cached_property
    def relevance(self) -> Array:
        """R, which is c times the result."""
        return self._shaped(self.c * self.local.value(self.change.result))

    @functools.cached_property
    def scale(self) -> Array | None:
        """s; None if no constant scales the weights."""
        if all(one.kind in ("sum", "view") for one in self.change.operations[1 : self.change.own]):
            return None
        zeros = self.local.xp.zeros_like(self._first)
        ones = self.local.xp.ones_like(self.local.value(self.change.layer))
        return self.local.vjp(self._behind, zeros, ones)

    @functools.cached_property
    def shift(self) -> Array:
        """T."""
        if self.change.bias:
            zeros = {self.change.data[0]: self.local.xp.zeros_like(self.x)}
            return self._shaped(self.local.compute(zeros, self.change.layer))
        return self._shaped(self._behind(self.local.xp.zeros_like(self._first)))

    def plain(self, x: Array, weights: Array) -> Array:
        """Return W0 x for any W0 and x."""
        given = {self.change.data[0]: x, self.change.weights: weights}
        if self.change.bias:
            bias = self.local.value(self.change.bias)
            given[self.change.bias] = self.local.xp.zeros_like(bias)
        return self.local.compute(given, self._name)

    def transposed(self, g: Array, weights: Array) -> Array:
        """Return the transpose of W0, times g."""
        return self.local.vjp(lambda x: self.plain(x, weights), self.x, g)

    def scaled(self, g: Array) -> Array:
        """Return s g."""
        return g if self.scale is None else self.scale * g

    def sized(self, g: Array) -> Array:
        """Return |s| g."""
        return g if self.scale is None else self.local.xp.abs(self.scale) * g

    def parts(self, sign: Sign) -> Array:
        """Return the sum of the positive, or of the negative, parts of z."""
        xp = self.local.xp
        sizes = self.sized(self.plain(xp.abs(self.x), xp.abs(self.weights)))
        total = (self.scaled(self.plain(self.x, self.weights)) + sign * sizes) / 2
        return signed(xp, total, sign) + signed(xp, self.shift, sign)

    def back(self, g: Array) -> Array:
        """Return the transpose of W, times g."""
        return self.transposed(self.scaled(g), self.weights)

    def back_sizes(self, g: Array) -> Array:
        """Return the transpose of |W|, times g."""
        return self.transposed(self.sized(g), self.local.xp.abs(self.weights))

    def back_parts(self, same: Array, sizes: Array) -> Array:
        """Return what passes back from the parts; half of it to each of W x and |W| |x|."""
        x = self.x
        ones = self.local.xp.ones_like(x)
        signs = self.local.xp.where(x > 0, ones, -ones)
        return (self.back(same) + signs * self.back_sizes(sizes)) / 2

    def ratio(self, by: Array, epsilon: float = STABILIZER) -> Array:
        """Return R / by, with a small number added to `by` away from zero."""
        if epsilon == 0:
            return divided(self.local.xp, self.relevance, by)
        step = self.local.xp.full_like(by, epsilon)
        return self.relevance / (by + self.local.xp.where(by >= 0, step, -step))

    @property
    def _name(self) -> str:
        return self.change.operations[0].makes[0]

    @property
    def _first(self) -> Array:
        return self.local.value(self._name)

    def _behind(self, value: Array) -> Array:
        """Return the layer's value for another value of its first operation."""
        return self.local.compute({self._name: value}, self.change.layer)

    def _shaped(self, value: Array) -> Array:
        return self.local.xp.reshape(value, self._first.shape)


def signed(xp: object, values: Array, sign: Sign) -> Array:
    """Return the positive values, or the negative ones, and 0 elsewhere."""
    zeros = xp.zeros_like(values)  # type: ignore[attr-defined]
    return xp.where(sign * values > 0, values, zeros)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Epsilon:
    r"""$c_x = W^\top \frac{c_z z}{z + \epsilon\,\mathrm{sign}(z)}$.

    Attributes:
        epsilon: 0 for LRP-0, the ordinary derivative where z is not 0.
    """

    epsilon: float = STABILIZER

    def pull(self, change: Change, local: Local, c: Array) -> tuple[Array]:
        """See `Rule`."""
        layer = Layer(change, local, c)
        return (layer.back(layer.ratio(layer.z, self.epsilon)),)


@dataclass(frozen=True)
class AlphaBeta:
    """`alpha` times what the positive parts get, less `beta` times what the negative ones get.

    Attributes:
        alpha: beta + 1, so that the relevance is conserved.
        beta: 0 for the z-plus rule.
    """

    alpha: float = 2.0
    beta: float = 1.0

    def pull(self, change: Change, local: Local, c: Array) -> tuple[Array]:
        """See `Rule`."""
        layer = Layer(change, local, c)
        positive = self.alpha * layer.ratio(layer.parts(1))
        if not self.beta:
            return (layer.back_parts(positive, positive),)
        negative = self.beta * layer.ratio(layer.parts(-1))
        return (layer.back_parts(positive - negative, positive + negative),)


@dataclass(frozen=True)
class Gamma:
    """Parts of the sign of z count (1 + gamma) times.

    Attributes:
        gamma: 0 for LRP-0.
    """

    gamma: float = 0.25

    def pull(self, change: Change, local: Local, c: Array) -> tuple[Array]:
        """See `Rule`."""
        layer, xp = Layer(change, local, c), local.xp
        zeros = xp.zeros_like(layer.z)
        positive, negative = (
            xp.where(
                sign * layer.z > 0, layer.ratio(layer.z + self.gamma * layer.parts(sign)), zeros
            )
            for sign in SIGNS
        )
        same = (2 + self.gamma) * (positive + negative)
        return (layer.back_parts(same, self.gamma * (positive - negative)),)


@dataclass(frozen=True)
class Flat:
    """All weights and data count as 1; for a first layer, so that this is R and not c."""

    def pull(self, change: Change, local: Local, c: Array) -> tuple[Array]:
        """See `Rule`."""
        layer = Layer(change, local, c)
        weights = local.xp.ones_like(layer.weights)
        g = layer.ratio(layer.plain(local.xp.ones_like(layer.x), weights))
        return (layer.transposed(g, weights),)


@dataclass(frozen=True)
class WSquare:
    """The squares of the weights count, and no data; for a first layer, as `Flat`."""

    def pull(self, change: Change, local: Local, c: Array) -> tuple[Array]:
        """See `Rule`."""
        layer = Layer(change, local, c)
        squares = layer.weights * layer.weights
        total = layer.plain(local.xp.ones_like(layer.x), squares)
        total = layer.scaled(layer.scaled(total)) + layer.shift * layer.shift
        return (layer.transposed(layer.scaled(layer.scaled(layer.ratio(total))), squares),)


@dataclass(frozen=True)
class Box:
    """The z-box rule for data between two bounds; for a first layer, as `Flat`.

    Attributes:
        low: the lower bound, in the units of the layer's data.
        high: the upper bound.
    """

    low: float
    high: float

    def pull(self, change: Change, local: Local, c: Array) -> tuple[Array]:
        """See `Rule`."""
        layer = Layer(change, local, c)
        # W+ low + W- high = W (low + high) / 2 - |W| (high - low) / 2
        xp, middle, half = local.xp, (self.low + self.high) / 2, (self.high - self.low) / 2
        halves = xp.full_like(layer.x, half)
        total = layer.scaled(layer.plain(layer.x - middle, layer.weights))
        total = total + layer.sized(layer.plain(halves, xp.abs(layer.weights)))
        g = layer.ratio(total)
        return ((layer.x - middle) * layer.back(g) + half * layer.back_sizes(g),)
