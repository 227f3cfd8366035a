"""Rules for linear layers: convolutions, dense layers and what is folded into them.

A layer is z = W x + t, with the weights W = s W0 of an operation W0 that the constants s of a
following batch normalisation scale, and all added constants t. The parts of z are the products of
one weight and one value. The positive parts sum to W+ x+ + W- x-, the negative ones to
W- x+ + W+ x-, with the positive and negative weights W+ and W- and data x+ and x-. Both follow from
|W| |x| and W x too, with half of the work, but a sum that is small beside |W| |x| has a large
rounding error then.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

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
        linear = self._forward(signed(xp, self.x, 1), sign) + self._forward(
            signed(xp, self.x, -1), -sign
        )
        return linear + signed(xp, self.shift, sign)

    def back_parts(self, g: Array, sign: Sign) -> Array:
        """Return what passes back from the positive, or from the negative, parts of z."""
        xp, zeros = self.local.xp, self.local.xp.zeros_like(self.x)
        above, below = self._back(g, sign), self._back(g, -sign)
        return xp.where(self.x > 0, above, xp.where(self.x < 0, below, zeros))

    def _forward(self, x: Array, sign: Sign) -> Array:
        """Return W+ x or W- x."""
        one = self.plain(x, self._part(sign))
        if self.scale is None:
            return one
        other = self.plain(x, self._part(-sign))
        return self.scale * self.local.xp.where(self.scale > 0, one, other)

    def _back(self, g: Array, sign: Sign) -> Array:
        """Return the transpose of W+ or W-, times g."""
        if self.scale is None:
            return self.transposed(g, self._part(sign))
        scaled, zeros = self.scale * g, self.local.xp.zeros_like(g)
        one = self.local.xp.where(self.scale > 0, scaled, zeros)
        other = self.local.xp.where(self.scale > 0, zeros, scaled)
        return self.transposed(one, self._part(sign)) + self.transposed(other, self._part(-sign))

    def _part(self, sign: Sign) -> Array:
        return signed(self.local.xp, self.weights, sign)

    def sizes(self, x: Array) -> Array:
        """Return |W| x."""
        return self.sized(self.plain(x, self.local.xp.abs(self.weights)))

    def back(self, g: Array) -> Array:
        """Return the transpose of W, times g."""
        return self.transposed(self.scaled(g), self.weights)

    def back_sizes(self, g: Array) -> Array:
        """Return the transpose of |W|, times g."""
        return self.transposed(self.sized(g), self.local.xp.abs(self.weights))

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


def signed(xp: Any, values: Array, sign: Sign) -> Array:
    """Return the positive values, or the negative ones, and 0 elsewhere."""
    zeros = xp.zeros_like(values)
    return xp.where(sign * values > 0, values, zeros)


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
        found = self.alpha * layer.back_parts(layer.ratio(layer.parts(1)), 1)
        if self.beta:
            found = found - self.beta * layer.back_parts(layer.ratio(layer.parts(-1)), -1)
        return (found,)


@dataclass(frozen=True)
class Gamma:
    """Parts of the sign of z count (1 + gamma) times.

    They are at least half of |W| |x| together, so that they follow from it without rounding errors.

    Attributes:
        gamma: 0 for LRP-0.
    """

    gamma: float = 0.25

    def pull(self, change: Change, local: Local, c: Array) -> tuple[Array]:
        """See `Rule`."""
        layer, xp = Layer(change, local, c), local.xp
        linear = layer.scaled(layer.plain(layer.x, layer.weights))
        sizes, zeros = layer.sizes(xp.abs(layer.x)), xp.zeros_like(layer.z)
        positive, negative = (
            xp.where(sign * layer.z > 0, layer.ratio(layer.z + self.gamma * parts), zeros)
            for sign in SIGNS
            for parts in [(linear + sign * sizes) / 2 + signed(xp, layer.shift, sign)]
        )
        same = (1 + self.gamma / 2) * layer.back(positive + negative)
        signs = xp.where(layer.x > 0, xp.ones_like(layer.x), -xp.ones_like(layer.x))
        return (same + self.gamma / 2 * signs * layer.back_sizes(positive - negative),)


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
        linear = layer.scaled(layer.plain(layer.x - middle, layer.weights))
        g = layer.ratio(linear + layer.sizes(xp.full_like(layer.x, half)))
        return ((layer.x - middle) * layer.back(g) + half * layer.back_sizes(g),)
